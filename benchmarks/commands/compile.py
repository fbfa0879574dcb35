"""`python -m benchmarks compile`: a compile by phase, against copying the checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from benchmarks.commands._options import arguments, json_option, target_option


@click.command("compile")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@target_option
@click.option("--dtype", type=click.Choice(["fp16", "bf16", "fp32"]), help="As in tvmc compile.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Compiles; before, between and after them the checkpoint is copied.",
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The directory on the disk that is written to; default: that of temporary files.",
)
@json_option
def compile_command(
    model: Path,
    target: str,
    dtype: str | None,
    rounds: int,
    scratch: Path | None,
    json_file: Path | None,
) -> None:
    """Compile MODEL, a config or a checkpoint's directory, and throw the artefact away.

    Before every compile and every copy the checkpoint's files leave the page cache.

    \b
    Example:
      python -m benchmarks compile glm-4-9b-chat-hf --dtype bf16
    """
    from benchmarks import tables
    from benchmarks.compiling import compile_in_subprocess, copy_seconds, forget, median_phases
    from benchmarks.machine import cpu_count, describe_run
    from benchmarks.results import CompileResults, write_results
    from benchmarks.spread import Spread
    from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.steps.options import resolve_options

    checkpoint = open_checkpoint(resolve_options(model, dtype=dtype).checkpoint)
    tensors = checkpoint.tensors.values()
    files = sorted({Path(tensor.file) for tensor in tensors})
    read = sum(tensor.nbytes for tensor in tensors)
    run = describe_run(arguments(), target, cpu_count())
    compiles, copies, written = [], [], 0
    for number in range(1, rounds + 1):
        # A directory of its own: nothing of an earlier compile can be reused.
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            forget(files)
            artefact = Path(directory) / "artefact"
            compiles.append(compile_in_subprocess(model, artefact, target, dtype))
            manifest = read_manifest(artefact / MANIFEST_NAME)
            written = sum(manifest.files[name].bytes for name in manifest.weights)
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            forget(files)
            copies.append(copy_seconds(files, read, written, Path(directory) / "copy"))
        seconds = sum(phase.seconds for phase in compiles[-1])
        click.echo(f"{number}/{rounds}: compiled in {seconds:.1f} s, copied in {copies[-1]:.1f} s")
    measured = CompileResults(
        run=run,
        model=f"{checkpoint.spec.layers} layers, {read / 1e9:.1f} GB of {checkpoint.spec.dtype}",
        read_bytes=read,
        written_bytes=written,
        phases=median_phases(compiles),
        copy_seconds=Spread.of(copies),
    )
    click.echo(tables.aligned(tables.PHASE_COLUMNS, tables.phase_rows(measured)))
    if json_file:
        write_results(measured, json_file)
