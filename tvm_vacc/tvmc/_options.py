"""Options that several subcommands share, and how their help is laid out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

artefact_argument = click.argument("artefact", type=click.Path(exists=True, path_type=Path))

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; default: all cores."
)


def sampling_options(command: Command) -> Command:
    """Add --max-tokens, --temperature, --top-p, --top-k and --seed to a command.

    Their ranges are checked by `SamplingParams`, for the command line as for the Python API.
    """
    options = (
        click.option(
            "--max-tokens",
            type=click.IntRange(min=1),
            help="End the answer after so many tokens; default: the model's context.",
        ),
        click.option(
            "--temperature",
            type=float,
            default=0.0,
            show_default=True,
            help="0 always takes the most probable token.",
        ),
        click.option(
            "--top-p",
            type=float,
            default=1.0,
            show_default=True,
            help="Draw from the most probable tokens that make up this share.",
        ),
        click.option(
            "--top-k",
            type=int,
            default=0,
            show_default=True,
            help="Draw from so many tokens; 0 means all.",
        ),
        click.option("--seed", type=int, help="Make the draw repeatable."),
    )
    for option in reversed(options):
        command = option(command)
    return command
