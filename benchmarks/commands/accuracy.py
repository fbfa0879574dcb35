"""`python -m benchmarks accuracy`: what each type of weights costs, ours and other programs'."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.commands._options import arguments, json_option, peers_option, threads_option

TYPES = ("fp16", "bf16", "w8a16", "w8a8", "w4a16")


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--type",
    "types",
    multiple=True,
    default=TYPES,
    show_default=True,
    help="fp16, bf16, fp32, or a frontend.quantize.type with further keys of that section, as "
    "w4a16:group_size=32,head=8bit; may be given several times.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Of what a quantised type leaves: the KV cache, the head, the embedding.",
)
@peers_option
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Pieces of text of at most 256 tokens.",
)
@click.option(
    "--workspace",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the artefacts are compiled and stay; default: a temporary directory.",
)
@threads_option
@json_option
def accuracy(
    checkpoint: Path,
    types: tuple[str, ...],
    dtype: str,
    peers: tuple[tuple[str, str, str], ...],
    windows: int,
    workspace: Path | None,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Compile the GLM of the directory CHECKPOINT in each type, and compare its predictions.

    The text is what the demo checkpoint never saw; the reference is transformers in fp32.

    \b
    Example:
      python -m benchmarks accuracy demo/checkpoint --type w8a16
    """
    from benchmarks import tables
    from benchmarks.accuracy import Reference, held_out_windows, measure, reference_scores
    from benchmarks.artefacts import compile_type
    from benchmarks.machine import cpu_count, describe_run
    from benchmarks.results import AccuracyResults, write_results
    from benchmarks.system import Start, parse_peer
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.runtime.tokenizer import Tokenizer

    threads = threads or cpu_count()
    target = "tvm_vacc -mcpu=native"
    run = describe_run(arguments(), target, threads)
    others = [parse_peer(peer, threads) for peer in peers]
    text = held_out_windows(Tokenizer.from_directory(checkpoint), windows)
    reference = Reference(open_checkpoint(checkpoint), text)
    known = reference_scores(reference)
    rows = []
    with ExitStack() as stack:
        place = workspace or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for kind in types:
            artefact = compile_type(checkpoint, kind, dtype, target, place)
            keys = kind.partition(":")[2]
            note = f", {keys}" if keys else ""
            start = Start("ours", sys.executable, artefact, threads)
            rows.append(measure(start, reference, note))
            click.echo(tables.accuracy_line(rows[-1]))
        for start in others:
            rows.append(measure(start, reference))
            click.echo(tables.accuracy_line(rows[-1]))
    measured = AccuracyResults(
        run=run,
        model=f"{checkpoint.name} of {checkpoint.parent.name}",
        text=f"{windows} windows of the demo's held-out text",
        tokens=len(known.kl),
        reference_perplexity=known.perplexity,
        rows=tuple(rows),
    )
    click.echo(f"transformers fp32: perplexity {known.perplexity:.4f} of {measured.tokens} tokens")
    if json_file:
        write_results(measured, json_file)
