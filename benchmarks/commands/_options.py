"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


def arguments() -> Sequence[str]:
    """Return the words that the program was called with."""
    return click.get_current_context().find_root().obj


threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; default: all cores."
)

target_option = click.option(
    "--target",
    default="tvm_vacc -mcpu=native",
    show_default=True,
    help="What our kernels are compiled for.",
)

rounds_option = click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Samples of each figure, limits between them.",
)

json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write the results to.",
)

peers_option = click.option(
    "--peer",
    "peers",
    nargs=3,
    multiple=True,
    metavar="ADAPTER PYTHON MODEL",
    help="Another program: its adapter (as llama_cpp, or openvino:group=4096), the interpreter "
    "that has it, what it loads; may be given several times.",
)

plot_option = click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .svg or .png file to draw the results to.",
)
