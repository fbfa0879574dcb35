"""`tvmc compile`: from a checkpoint, a config or an ONNX file to an artefact."""

from __future__ import annotations

import shlex
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
    "-f",
    "--output-format",
    type=click.Choice(["dir", "mlf"]),
    default="dir",
    show_default=True,
    help="mlf: C99 sources for another toolchain, as --target tvm_vacc/c gives them.",
)
@click.option(
    "--cross-compiler",
    metavar="PROGRAM",
    help="What links the kernels; by default g++, for another machine <triple>-g++. none: they are "
    "compiled when the artefact is loaded.",
)
@click.option(
    "--cross-compiler-options",
    metavar="WORDS",
    default="",
    help='Further arguments to it, such as "--sysroot=/opt/arm -fuse-ld=lld".',
)
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
@click.option(
    "--no-passport", is_flag=True, help="Do not measure the accuracy of what was compiled."
)
@click.option("--no-cache", is_flag=True, help="Make everything anew.")
@click.option("-v", "--verbose", is_flag=True, help="Show the plan before compiling.")
def compile_command(
    file: Path,
    target: str,
    output: Path | None,
    output_format: str,
    cross_compiler: str | None,
    cross_compiler_options: str,
    dtype: str | None,
    context: int | None,
    prefill: int | None,
    print_ir_after: tuple[str, ...],
    dry_run: bool,
    explain: bool,
    no_passport: bool,
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
      tvmc compile --target "tvm_vacc -mtriple=aarch64-linux-gnu" glm-4-9b-chat-hf -o glm4-arm
      tvmc compile --target tvm_vacc/c glm-4-9b-chat-hf -o glm4-c
    """
    from tvm_vacc.target_string import parse_target

    target = target_of(target, output_format)
    parse_target(target)  # refused before anything heavy is imported
    linker_words = words_of(cross_compiler_options)
    from rich.console import Console

    with torch_hidden():
        from tvm_vacc import compiler
    from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
    from tvm_vacc.tvmc._passport import print_passport
    from tvm_vacc.tvmc._plan import show_graph_storage, show_plan
    from tvm_vacc.tvmc._progress import show_progress
    from tvm_vacc.tvmc._report import print_passes

    model = read_input(file)
    options = compiler.resolve_options(model, dtype=dtype, prefill=prefill, context=context)
    passes = planned_passes(options, print_ir_after)
    if dry_run or verbose:
        show_plan(options, target, passes, output or options.output, passport=not no_passport)
    if dry_run:
        if options.type == "onnx":
            show_graph_storage(options, target)
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
                passport=not no_passport,
                explain=explanations.append,
                cross_compiler=cross_compiler,
                cross_compiler_options=linker_words,
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command goes on where this one stopped.", err=True)
        raise
    for explanation in explanations if explain else ():
        click.echo(explanation)
    manifest = read_manifest(path / MANIFEST_NAME)
    print_passes(manifest.passes)
    if manifest.passport is not None:
        print_passport(manifest.passport)
    click.echo(f"The artefact is in {path}")


def words_of(options: str) -> list[str]:
    """Split `options` as a shell does.

    Raises:
        ConfigError: a quotation is left open.
    """
    from tvm_vacc.errors import ConfigError

    try:
        return shlex.split(options)
    except ValueError as error:
        raise ConfigError(f"--cross-compiler-options {options!r}: {error}", "close it") from None


def target_of(target: str, output_format: str) -> str:
    """Return the target that `output_format` demands: ``mlf`` is C sources.

    Raises:
        ConfigError: a target for machine code is given beside ``mlf``.
    """
    from tvm_vacc.errors import ConfigError
    from tvm_vacc.target import C_TAG, TAG

    if output_format == "dir":
        return target
    if target.strip() not in (TAG, C_TAG):
        raise ConfigError(
            f"--target {target!r} is given beside --output-format mlf, which is C sources",
            "leave --target out, and give its options to the compiler that builds the sources",
        )
    return C_TAG


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
