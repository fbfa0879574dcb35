"""`tvmc inspect`: what an artefact is and holds."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._options import artefact_argument

if TYPE_CHECKING:
    from tvm_vacc.artifact.manifest import Manifest, TensorSpec
    from tvm_vacc.artifact.processor import Processor


@click.command(short_help="Show what an artefact is and holds.")
@artefact_argument
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself.")
@click.option("--verify", is_flag=True, help="Compare every file with its SHA-256.")
def inspect(artefact: Path, as_json: bool, verify: bool) -> None:
    """Show model, target, weights by kind, pass report, files and tool versions of an artefact.

    \b
    Example:
      tvmc inspect glm4 --verify
    """
    from tvm_vacc.artifact.archive import manifest_of
    from tvm_vacc.artifact.store import open_artifact

    # Without --verify a damaged artefact shows what it was meant to be.
    manifest = open_artifact(artefact, verify=True).manifest if verify else manifest_of(artefact)
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    _show(manifest)
    if verify:
        click.echo(f"\nAll {len(manifest.files)} files are as they were written.")


def _show(manifest: Manifest) -> None:
    from rich.filesize import decimal

    from tvm_vacc.tvmc._calibration import print_calibration
    from tvm_vacc.tvmc._passport import print_layers, print_passport
    from tvm_vacc.tvmc._report import print_facts, print_passes, print_storage, print_table

    print_facts(
        {
            "name": manifest.name,
            "kind": manifest.kind,
            "target": manifest.target,
            "runs on": _processor(manifest.processor),
            "dtype": manifest.dtype,
            "quantization": manifest.quantization,
            "products": manifest.products,
            "prefill": manifest.prefill,
            "context": manifest.context,
            "KV cache": _kv_cache(manifest),
            **{name: value for name, value in manifest.model_spec.items() if name != "dtype"},
            "inputs": _describe(manifest.inputs),
            "outputs": _describe(manifest.outputs),
            "size": decimal(sum(file.bytes for file in manifest.files.values())),
            "created": manifest.created,
            "tools": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()),
        }
    )
    click.echo()
    print_storage(manifest.storage)
    if manifest.calibration:
        click.echo()
        print_calibration(manifest.calibration)
    click.echo()
    if manifest.passport is not None:
        print_passport(manifest.passport)
        print_layers(manifest.passport)
        click.echo()
    print_passes(manifest.passes)
    click.echo()
    print_table(
        ("file", "size", "sha256"),
        [(name, decimal(file.bytes), file.sha256[:12]) for name, file in manifest.files.items()],
    )


def _processor(processor: Processor | None) -> str | None:
    """Return the triple and the features that code needs; None where there is no code."""
    if processor is None:
        return None
    needed = ", ".join(processor.features)
    return f"{processor.triple} with {needed}" if needed else processor.triple


def _kv_cache(manifest: Manifest) -> str | None:
    """Return what the KV cache is stored as and what a token takes; None where there is none."""
    from rich.filesize import decimal

    from tvm_vacc.dtypes import NUMPY_DTYPES
    from tvm_vacc.wording import layers_text

    if not manifest.caches or not manifest.page_size:
        return None
    nbytes = sum(
        NUMPY_DTYPES[cache.dtype].itemsize * prod(int(dim) for dim in cache.shape[1:])
        for cache in manifest.caches
    )
    layers: dict[str, list[int]] = {}
    for layer, cache in enumerate(manifest.caches[::2]):
        layers.setdefault(cache.dtype, []).append(layer)
    usual, *others = sorted(layers, key=lambda dtype: -len(layers[dtype]))
    named = [f"; {layers_text(layers[dtype])} {dtype}" for dtype in others]
    return f"{usual}{''.join(named)}, {decimal(nbytes // manifest.page_size)} a token"


def _describe(tensors: tuple[TensorSpec, ...]) -> str | None:
    """Return ``x float32 [batch, 3], ...``; None where there are none."""
    texts = (f"{t.name} {t.dtype} [{', '.join(map(str, t.shape))}]" for t in tensors)
    return ", ".join(texts) or None
