"""`tvmc verify`: whether an artefact is as accurate on this machine as its manifest states."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_vacc.tvmc._options import artefact_argument, threads_option


@click.command(short_help="Measure an artefact's accuracy here, against its passport.")
@artefact_argument
@threads_option
def verify(artefact: Path, threads: int | None) -> None:
    """Replay the yardstick text and hold the figures against the manifest's.

    Needs neither the checkpoint nor torch: the artefact holds what the reference predicted. What is
    worse than stated by more than the tolerance is an error, exit code 4.

    \b
    Example:
      tvmc verify glm4
    """
    from rich.console import Console

    from tvm_vacc.tvmc._load import load_language_model

    model = load_language_model(artefact, threads)

    from tvm_vacc.passport import verify as verification
    from tvm_vacc.progress import Progress
    from tvm_vacc.tvmc._passport import print_replay
    from tvm_vacc.tvmc._progress import show_progress

    with show_progress(Console(stderr=True)) as show:
        found = verification.verify(
            model, lambda done, total: show(Progress("verify", done, total, "tokens"))
        )
    passport = model.manifest.passport
    assert passport is not None
    print_replay(passport, found)
    if passport.accuracy is None:
        click.echo(f"The manifest states nothing to hold this against: {passport.note}.")
    else:
        click.echo(f"As stated, within {passport.tolerance:.0%}.")
