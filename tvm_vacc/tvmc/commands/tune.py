"""`tvmc tune`: looks for faster kernels of a model on this machine, and keeps records of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tvm_vacc.light_tvm import torch_hidden


@click.command(short_help="Look for faster kernels on this machine.")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="The directory of the records; what is there already is gone on from. Default: the "
    "model's name with the suffix .tuning.",
)
@click.option(
    "--target",
    default="tvm_vacc -mcpu=native",
    show_default=True,
    help="What for; this machine must be able to run it.",
)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Schedules, or choices, to measure of each task, earlier runs' included.",
)
@click.option(
    "--tasks",
    default="all",
    show_default=True,
    metavar="list|all|0,2,3-5",
    help="What to tune; list shows what there is, and tunes nothing.",
)
@click.option(
    "--early-stopping",
    type=click.IntRange(min=1),
    metavar="N",
    help="Leave a task after N schedules, or choices, in a row without a better one.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds that one schedule may take to be built, and to be timed.",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    help="Processes that build; default: one a CPU, and never more.",
)
@click.option(
    "--input-shapes",
    metavar="SHAPES",
    help='Shapes of inputs, where the model leaves dimensions open: "x:[1,3,224,224]".',
)
@click.option("--dtype", type=click.Choice(["fp16", "bf16", "fp32"]), help="As for compile.")
@click.option("--context", type=int, help="As for compile.")
@click.option("--prefill", type=int, help="As for compile.")
@click.option(
    "--no-comparison",
    is_flag=True,
    help="Do not compile the model with and without the records to measure what was gained.",
)
def tune(
    file: Path,
    output: Path | None,
    target: str,
    trials: int,
    tasks: str,
    early_stopping: int | None,
    timeout: float,
    parallel: int | None,
    input_shapes: str | None,
    dtype: str | None,
    context: int | None,
    prefill: int | None,
    no_comparison: bool,
) -> None:
    """Tune FILE: a YAML config, a checkpoint's directory, or a model as compile takes it.

    Kernels of operators that are not ours are scheduled anew by TVM's MetaSchedule; of our linears,
    the choices are tried that cut their work otherwise. Ctrl-C ends it after what is being
    measured, and the same command goes on from there.

    \b
    Examples:
      tvmc tune resnet.onnx --tasks list
      tvmc tune chatglm.yaml --tasks all --early-stopping 24
      tvmc tune resnet.onnx -o resnet.tuning --trials 200 --early-stopping 64
      tvmc compile resnet.onnx --target "tvm_vacc -mcpu=native" --tuning-records resnet.tuning
    """
    from tvm_vacc.target_string import parse_target

    parse_target(target)  # refused before anything heavy is imported
    with torch_hidden():
        from tvm_vacc.tuning.tune import tune as tune_model
    from tvm_vacc.tvmc._tuning import print_gains, print_tasks, show_progress, tell_open
    from tvm_vacc.tvmc.compiling.model import parse_shapes

    records = output or Path(f"{file.stem}.tuning")
    given: dict[str, Any] = {"dtype": dtype, "context": context, "prefill": prefill}
    if input_shapes is not None:
        given["input_shapes"] = parse_shapes(input_shapes)
    if tasks == "list":
        from tvm_vacc.tuning.tune import list_tasks

        print_tasks(list_tasks(file, target=target, **given))
        return
    try:
        tuned = tune_model(
            file,
            records=records,
            target=target,
            tasks=tasks,
            trials=trials,
            early_stopping=early_stopping,
            timeout=timeout,
            workers=parallel,
            progress=show_progress,
            listed=tell_open,
            compare=not no_comparison,
            **given,
        )
    except KeyboardInterrupt:
        click.echo(
            f"Interrupted. What was found is in {records}; the same command goes on from there.",
            err=True,
        )
        raise
    print_gains(tuned)
    click.echo(f"The records are in {records}; use them: tvmc compile --tuning-records {records}")
