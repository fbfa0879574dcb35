"""`tvmc compile`: from a model to an artefact."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tvm_vacc.light_tvm import torch_hidden
from tvm_vacc.tvmc._sections import SectionedCommand
from tvm_vacc.tvmc.compiling.dumps import dump_options, read_watch
from tvm_vacc.tvmc.compiling.linking import linker_options, read_linker_options
from tvm_vacc.tvmc.compiling.model import model_options, read_input, read_model_options
from tvm_vacc.tvmc.compiling.output import output_options, read_output_options
from tvm_vacc.tvmc.compiling.passes import pass_options, read_build_options
from tvm_vacc.tvmc.compiling.target import read_target, target_of, target_options
from tvm_vacc.tvmc.presets import config_option

if TYPE_CHECKING:
    from tvm_vacc.artifact.manifest import Manifest
    from tvm_vacc.cache.explain import Explanation
    from tvm_vacc.codegen.options import BuildOptions, BuildWatch
    from tvm_vacc.config import CompileOptions


@click.command("compile", cls=SectionedCommand, short_help="Compile a model to an artefact.")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@model_options
@target_options
@linker_options
@output_options
@pass_options
@dump_options
@config_option
@click.option(
    "--no-passport", is_flag=True, help="Do not measure the accuracy of what was compiled."
)
@click.option("--no-cache", is_flag=True, help="Make everything anew.")
def compile_command(file: Path, no_passport: bool, no_cache: bool, **given: Any) -> None:
    """Compile FILE: a checkpoint's directory, an .onnx file, a .pt2 file of torch.export, a Relax
    module, or a YAML config.

    What an earlier compile beside the artefact has made is reused where nothing it depends on has
    changed; an interrupted compile is gone on with.

    \b
    Examples:
      tvmc compile --target tvm_vacc glm-4-9b-chat-hf -o glm4 --dtype fp16 --context 4096
      tvmc compile --target "tvm_vacc -mcpu=znver4" configs/hf_chatglm_fp16.yaml
      tvmc compile --target "tvm_vacc -mtriple=aarch64-linux-gnu" glm-4-9b-chat-hf -o glm4-arm
      tvmc compile --config native resnet.onnx -o resnet.so --input-shapes "x:[1,3,224,224]"
      tvmc compile --target tvm_vacc/c glm-4-9b-chat-hf -o glm4-c
    """
    from tvm_vacc.target_string import parse_target

    result = read_output_options(given)
    target = target_of(read_target(given), result.format)
    parse_target(target)  # refused before anything heavy is imported
    linking = read_linker_options(given)
    dry_run, explain, verbose = (given.pop(name) for name in ("dry_run", "explain", "verbose"))
    from rich.console import Console

    with torch_hidden():
        from tvm_vacc import compiler
    from tvm_vacc.tvmc._plan import show_graph_storage, show_plan
    from tvm_vacc.tvmc._progress import show_progress
    from tvm_vacc.tvmc.packages import compile_package

    wanted = read_model_options(given)
    model = read_input(file, wanted.model_format)
    options = compiler.resolve_options(model, name=result.module_name, **asdict(wanted))
    output = result.path(options.output)
    times: list[str] = []
    build, watch = read_build_options(given, target), read_watch(given, output, times)
    passes = planned_passes(options, target, build, watch)
    if dry_run:
        compiler.read_texts(options, passport=not no_passport)
    if dry_run or verbose:
        show_plan(options, target, passes, output, passport=not no_passport)
    if dry_run:
        if options.type != "huggingface":
            show_graph_storage(options, target)
        click.echo("Nothing was written: --dry-run.")
        return
    explanations: list[Explanation] = []
    try:
        with show_progress(Console(stderr=True)) as progress:
            path, manifest = compile_package(
                model,
                output,
                result.format,
                name=result.module_name,
                target=target,
                progress=progress,
                build=build,
                watch=watch,
                reuse=not no_cache,
                passport=not no_passport,
                explain=explanations.append,
                **linking,
                **asdict(wanted),
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command goes on where this one stopped.", err=True)
        raise
    for text in (*times, *(explanations if explain else ())):
        click.echo(text)
    _report(manifest)
    click.echo(f"The artefact is in {path}")


def planned_passes(
    options: CompileOptions, target: str, build: BuildOptions, watch: BuildWatch
) -> str | None:
    """Check the checkpoint's files and return the names of the passes that it will go through.

    None for a file of a graph: what it holds, which takes its time to read, tells what they are.

    Raises:
        VaccError: a file is missing or damaged, or a pass is named that there is not.
    """
    if options.type != "huggingface":
        return None

    from tvm_vacc.codegen.pass_names import check_pass_names
    from tvm_vacc.config import DEFAULT_PREFILL
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.pipeline import chosen, glm_pipeline
    from tvm_vacc.steps.stored_codes import stored_matrices, with_stored_codes
    from tvm_vacc.target_string import make_target

    checkpoint = open_checkpoint(options.checkpoint)
    options = with_stored_codes(options, checkpoint.stored)
    steps = glm_pipeline(
        checkpoint.spec.layers,
        options.relax_dtype,
        prefill=options.prefill or DEFAULT_PREFILL,
        quantization=options.quantization,
        stored=stored_matrices(checkpoint.stored),
    )
    names = (*build.disabled, *watch.print_before, *watch.print_after)
    check_pass_names(steps, names, make_target(target) if names else None)
    return ", ".join(step.run.name for step in chosen(steps, build.opt_level, build.disabled))


def _report(manifest: Manifest) -> None:
    from tvm_vacc.tvmc._passport import print_passport
    from tvm_vacc.tvmc._report import print_passes

    print_passes(manifest.passes)
    if manifest.passport is not None:
        print_passport(manifest.passport)
