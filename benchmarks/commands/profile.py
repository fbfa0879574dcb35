"""`python -m benchmarks profile`: each kernel of one step against the limit that binds it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.commands._options import rounds_option, threads_option


@click.command()
@click.argument("artefact", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--context", type=click.IntRange(min=0), default=128, show_default=True)
@click.option("--tokens", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@threads_option
@rounds_option
def profile(
    artefact: Path, context: int, tokens: int, batch: int, threads: int | None, rounds: int
) -> None:
    """Show what each kernel takes of one step, as tvmc profile does, and its part of the limit.

    A kernel whose data the caches hold may exceed what reading memory allows.

    \b
    Example:
      python -m benchmarks profile glm4 --context 1024
    """
    from benchmarks import tables
    from benchmarks.limits import Limits
    from benchmarks.peers.ours import unit_of
    from benchmarks.setup import Setup
    from tvm_vacc.runtime.profile import profile_model
    from tvm_vacc.tvmc._load import load_language_model

    setup = Setup.make(threads=threads)
    limits = Limits(setup)
    model = load_language_model(artefact, None)
    before = limits.measure()
    measured = profile_model(model, context=context, tokens=tokens, batch=batch, rounds=rounds)
    speeds = before.mean(limits.measure())
    unit = unit_of(model.manifest)
    click.echo(tables.aligned(tables.PROFILE_COLUMNS, tables.profile_rows(measured, speeds, unit)))
    click.echo(f"The kernels explain {measured.explained:.1%} of {measured.seconds * 1e3:.3f} ms.")
