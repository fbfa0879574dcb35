"""`tvmc profile`: where the time of one step of a language model goes."""

from __future__ import annotations

from pathlib import Path

import click

from tvm_vacc.tvmc._options import artefact_argument, threads_option


@click.command()
@artefact_argument
@click.option(
    "--context",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    help="Tokens that each sequence has in its KV cache when the step begins.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="New tokens of each sequence: 1 is a decode step, more a piece of a prompt.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Steps whose medians are shown.",
)
@threads_option
def profile(
    artefact: Path, context: int, tokens: int, batch: int, rounds: int, threads: int | None
) -> None:
    """Show what each kernel takes of one step, sampling included, and what the machine would allow.

    \b
    Examples:
      tvmc profile glm4 --context 1024
      tvmc profile glm4 --context 0 --tokens 512
    """
    from tvm_vacc.tvmc._load import load_language_model
    from tvm_vacc.tvmc._profile import profile_against_limits

    model = load_language_model(artefact, threads, compiler=True)

    from tvm_vacc.runtime.profile import profile_model

    profile_against_limits(
        lambda: profile_model(model, context=context, tokens=tokens, batch=batch, rounds=rounds),
        model.manifest,
        threads,
    )
