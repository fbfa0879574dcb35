"""Turns a rewritten module into the files of an artefact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import ir, relax

from relay_passes.bundle_params import ENTRY
from relay_passes.weight_plan import PackedWeight, read_plan
from tvm_vacc.artifact.manifest import Manifest, PassReport, TensorSpec, installed_versions
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.artifact.weights_file import TensorEntry
from tvm_vacc.config import CompileOptions
from tvm_vacc.frontend.import_onnx import ImportedModel
from tvm_vacc.kernels import build_kernels, store_kernels
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.progress import Progress
from tvm_vacc.weights import pack_weight

TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
"""Files of a checkpoint that an artefact carries along, where they are there."""

TOOLS = ("tvm-vacc", "apache-tvm", "apache-tvm-ffi", "torch", "onnx", "numpy")
"""Distributions whose versions the manifest records."""


@dataclass(frozen=True)
class Package:
    """All that an artefact is made of.

    Attributes:
        options: what the user asked for.
        target: what the kernels are compiled for.
        imported: the model as it was read: names of inputs and outputs, where the weights lie.
        module: after all passes; its entry is ``forward``.
        passes: what each pass has done.
        spec: of a language model; None for a plain graph.
        lengths: prefill bucket and context in tokens of a language model.
        text_files: the directory that holds the tokenizer's files.
    """

    options: CompileOptions
    target: tvm.target.Target
    imported: ImportedModel
    module: ir.IRModule
    passes: tuple[PassReport, ...]
    spec: ModelSpec | None
    lengths: tuple[int, int] | None
    text_files: Path


def write_artifact(package: Package, destination: Path, report: Callable[[Progress], None]) -> Path:
    """Compile the kernels, stream the weights, and write everything to `destination`.

    Returns:
        The artefact's directory.

    Raises:
        ArtifactError: the destination cannot be written, or is something else.
        CheckpointError: a weight does not fit its dtype.
    """
    plan = read_plan(package.module[ENTRY])
    with ArtifactWriter(destination) as writer:
        report(Progress("kernels", 0, 1, "modules"))
        store_kernels(build_kernels(package.module, package.target), writer.directory)
        report(Progress("kernels", 1, 1, "modules"))
        names = _write_weights(package, plan, writer, report)
        if package.spec is not None:
            for name in TEXT_FILES:
                if (source := package.text_files / name).is_file():
                    writer.copy(source, name)
        writer.commit(_manifest(package, plan, names))
    return writer.destination


def _write_weights(
    package: Package,
    plan: Sequence[PackedWeight],
    writer: ArtifactWriter,
    report: Callable[[Progress], None],
) -> tuple[str, ...]:
    """Write the weights, one tensor in memory at a time; return the names of the files."""
    sources = package.imported.weights
    total = sum(sources[weight.source].nbytes for weight in plan)
    done = 0
    report(Progress("weights", done, total, "bytes"))
    files = {"weights.safetensors": list(plan)}
    if not package.options.merge_params:
        (writer.directory / "weights").mkdir()
        files = {f"weights/{index:05}.safetensors": [w] for index, w in enumerate(plan)}
    for name, weights in files.items():
        entries = [TensorEntry(weight.name, weight.shape, weight.dtype) for weight in weights]
        with writer.weights(name, entries) as stream:
            for weight in weights:
                source = sources[weight.source]
                stream.append(weight.name, pack_weight(weight, source))
                done += source.nbytes
                report(Progress("weights", done, total, "bytes"))
    return tuple(files)


def _manifest(package: Package, plan: Sequence[PackedWeight], files: tuple[str, ...]) -> Manifest:
    common: dict[str, Any] = {
        "name": package.options.name,
        "target": str(package.target),
        "dtype": package.options.dtype,
        "functions": tuple(
            sorted(
                gvar.name_hint
                for gvar, function in package.module.functions_items()
                if isinstance(function, relax.Function)
            )
        ),
        "weights": files,
        "parameters": tuple(weight.name for weight in plan),
        "passes": package.passes,
        "tools": installed_versions(*TOOLS),
    }
    if package.spec is None or package.lengths is None:
        main = package.imported.module["main"]
        inputs = [param.ty for param in main.params[: len(package.imported.inputs)]]
        returned = main.ret_ty
        outputs = list(returned.fields) if isinstance(returned, relax.TupleType) else [returned]
        return Manifest(
            kind="graph",
            inputs=_tensor_specs(package.imported.inputs, inputs),
            outputs=_tensor_specs(package.imported.outputs, outputs),
            **common,
        )
    bundled = list(package.module[ENTRY].params[-1].ty.fields)
    caches = bundled[: len(bundled) - len(plan)]
    return Manifest(
        kind="causal_lm",
        model_spec=package.spec.to_json(),
        prefill=package.lengths[0],
        context=package.lengths[1],
        page_size=PAGE_SIZE,
        caches=_tensor_specs([f"cache.{index}" for index in range(len(caches))], caches),
        **common,
    )


def _tensor_specs(
    names: Sequence[str], types: Sequence[relax.TensorType]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(map(_dim, ty.shape)), str(ty.dtype))
        for name, ty in zip(names, types, strict=True)
    )


def _dim(dim: Any) -> int | str:
    return int(dim) if isinstance(dim, (int, tvm.tirx.IntImm)) else str(dim)
