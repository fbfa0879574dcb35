"""`python -m benchmarks model`: a whole model, against the limits and against other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.commands._options import (
    arguments,
    json_option,
    peers_option,
    plot_option,
    rounds_option,
    threads_option,
)

NUMBERS = "Numbers with commas between."


class Numbers(click.ParamType):
    """Whole numbers above 0, with commas between; empty: none."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers in the text `value`."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(word) for word in str(value).split(",") if word)
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between", param, context)
        if any(number < 1 for number in numbers):
            self.fail(f"{value!r}: the numbers must be above 0", param, context)
        return numbers


@click.command()
@click.argument("artefact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--contexts",
    type=Numbers(),
    default="16,256,1024,4096,8192",
    show_default=True,
    help="Positions in the cache when a single sequence decodes.",
)
@click.option(
    "--batches",
    type=Numbers(),
    default="1,4,8,16",
    show_default=True,
    help="Sequences that decode together.",
)
@click.option(
    "--batch-context",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Positions of each of them.",
)
@click.option(
    "--prompts",
    type=Numbers(),
    default="17,100,512,513,1024,2048",
    show_default=True,
    help="Tokens of prompts.",
)
@peers_option
@click.option(
    "--starts",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often each program is started.",
)
@threads_option
@rounds_option
@json_option
@plot_option
def model(
    artefact: Path,
    contexts: tuple[int, ...],
    batches: tuple[int, ...],
    batch_context: int,
    prompts: tuple[int, ...],
    peers: tuple[tuple[str, str, str], ...],
    starts: int,
    threads: int | None,
    rounds: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure decoding, prompts, batches, the start and the memory of ARTEFACT.

    \b
    Example:
      python -m benchmarks model glm4 --peer llama_cpp ../llama/bin/python glm4-q8_0.gguf
    """
    from benchmarks.compare import compare
    from benchmarks.machine import describe_run
    from benchmarks.results import write_results
    from benchmarks.system import Start, parse_peer
    from benchmarks.work import decode_point, prefill_point
    from tvm_vacc.machine.setup import Setup

    setup = Setup.make(threads=threads)
    ours = Start("ours", sys.executable, artefact, setup.threads)
    starting = [ours, *(parse_peer(peer, setup.threads) for peer in peers)]
    points = [
        *(decode_point(context, 1) for context in contexts),
        *(decode_point(batch_context, batch) for batch in batches),
        *(prefill_point(tokens) for tokens in prompts),
    ]
    run = describe_run(arguments(), str(setup.target), setup.threads)
    measured = compare(
        run, setup, starting, tuple(dict.fromkeys(points)), rounds, starts, show=click.echo
    )
    if json_file:
        write_results(measured, json_file)
    if plot_file:
        from benchmarks.charts import draw_model

        draw_model(measured, plot_file)
