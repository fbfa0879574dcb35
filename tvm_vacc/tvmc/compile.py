"""`tvmc compile`: from a checkpoint, a config or an ONNX file to an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._light_tvm import torch_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tvm_vacc.cache.explain import Explanation
    from tvm_vacc.config import CompileOptions, Config

CONFIG_SUFFIXES = (".yaml", ".yml")


@click.command("compile", short_help="Compile a checkpoint, a config or an .onnx file.")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--target",
    default="tvm_vacc",
    show_default=True,
    help='What for: "tvm_vacc -mcpu=znver4", "tvm_vacc, llvm", or JSON; -mcpu=native means this '
    "machine's processor.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The artefact's directory.")
@click.option(
    "--dtype",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    help="What weights and KV cache are stored as; default: the checkpoint's own.",
)
@click.option("--context", type=int, help="Longest sequence in tokens, prompt and answer.")
@click.option("--prefill", type=int, help="Longest piece of a prompt computed in one go.")
@click.option(
    "--print-ir-after",
    metavar="PASS",
    multiple=True,
    help="Print the module after this pass; may be given several times.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and show the plan; write nothing.")
@click.option("--explain", is_flag=True, help="Say of each piece why it was made or reused.")
@click.option("--no-cache", is_flag=True, help="Make everything anew.")
@click.option("-v", "--verbose", is_flag=True, help="Show the plan before compiling.")
def compile_command(
    file: Path,
    target: str,
    output: Path | None,
    dtype: str | None,
    context: int | None,
    prefill: int | None,
    print_ir_after: tuple[str, ...],
    dry_run: bool,
    explain: bool,
    no_cache: bool,
    verbose: bool,
) -> None:
    """Compile FILE: a YAML config, a checkpoint's directory, or an .onnx file.

    What an earlier compile beside the artefact has made is reused where nothing it depends on has
    changed; an interrupted compile is gone on with.

    \b
    Examples:
      tvmc compile --target tvm_vacc glm-4-9b-chat-hf -o glm4 --dtype fp16 --context 4096
      tvmc compile --target "tvm_vacc -mcpu=znver4" configs/hf_chatglm_fp16.yaml
    """
    from tvm_vacc.target_string import parse_target

    parse_target(target)  # refused before anything heavy is imported
    from rich.console import Console

    with torch_hidden():
        from tvm_vacc import compiler
    from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
    from tvm_vacc.frontend.import_onnx import import_onnx
    from tvm_vacc.tvmc._progress import show_progress
    from tvm_vacc.tvmc._report import print_passes

    model = read_input(file)
    options = compiler.resolve_options(model, dtype=dtype, prefill=prefill, context=context)
    passes = planned_passes(options, print_ir_after)
    if dry_run or verbose:
        show_plan(options, target, passes, output or options.output)
    if dry_run:
        if options.type == "onnx":
            import_onnx(options.checkpoint, input_shapes=options.input_shapes, simplify=True)
        click.echo("Nothing was written: --dry-run.")
        return
    explanations: list[Explanation] = []
    try:
        with show_progress(Console(stderr=True)) as progress:
            path = compiler.compile(
                model,
                output=output,
                target=target,
                dtype=dtype,
                prefill=prefill,
                context=context,
                progress=progress,
                print_ir_after=print_ir_after,
                show=click.echo,
                reuse=not no_cache,
                explain=explanations.append,
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command goes on where this one stopped.", err=True)
        raise
    for explanation in explanations if explain else ():
        click.echo(explanation)
    print_passes(read_manifest(path / MANIFEST_NAME).passes)
    click.echo(f"The artefact is in {path}")


def read_input(file: Path) -> Path | Config:
    """Return the config in `file` and tell which of its keys have no effect, or the path itself."""
    from tvm_vacc.config import load_config

    if file.suffix not in CONFIG_SUFFIXES:
        return file
    config = load_config(file)
    for note in config.notes:
        click.echo(f"Note: {file}: {note}", err=True)
    return config


def planned_passes(options: CompileOptions, print_ir_after: Sequence[str]) -> str | None:
    """Check the checkpoint's files and return the names of the passes that it will go through.

    None for an ONNX file: its graph, which takes its time to read, tells what they are.

    Raises:
        VaccError: a file is missing or damaged, or `print_ir_after` names no pass.
    """
    if options.type == "onnx":
        return None

    from tvm_vacc.config import DEFAULT_PREFILL
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.pipeline import check_pass_names, glm_pipeline

    layers = open_checkpoint(options.checkpoint).spec.layers
    prefill = options.prefill or DEFAULT_PREFILL
    steps = glm_pipeline(
        layers, options.relax_dtype, prefill=prefill, quantization=options.quantization
    )
    check_pass_names(steps, print_ir_after)
    return ", ".join(step.run.name for step in steps)


def show_plan(options: CompileOptions, target: str, passes: str | None, output: Path) -> None:
    """Print what would be compiled, for what, by which passes, to where, and what it takes."""
    import shutil

    from rich.filesize import decimal

    from tvm_vacc.estimate import estimate
    from tvm_vacc.target_string import make_target
    from tvm_vacc.tvmc._report import print_facts

    needed = estimate(options)
    place = next(path for path in output.absolute().parents if path.is_dir())

    print_facts(
        {
            "model": f"{options.checkpoint} ({options.type})",
            "target": str(make_target(target)),
            "dtype": options.dtype,
            "prefill": options.prefill or None,
            "context": options.context or None,
            "passes": passes,
            "output": output,
            "weights": f"{decimal(needed.weights)}, packed of {decimal(needed.read)}",
            "disk": f"{decimal(shutil.disk_usage(place).free)} are free at {place}",
            "KV cache": f"{decimal(needed.kv_token)} a token" if needed.kv_token else None,
            "memory": f"about {decimal(needed.memory)} while compiling",
        }
    )
