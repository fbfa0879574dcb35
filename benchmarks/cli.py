"""The command line of the benchmarks: one subcommand a kind of measurement."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from benchmarks.commands.accuracy import accuracy
from benchmarks.commands.checkpoint import checkpoint
from benchmarks.commands.compile import compile_command
from benchmarks.commands.gguf import gguf_command
from benchmarks.commands.kernels import kernels
from benchmarks.commands.model import model
from benchmarks.commands.report import report
from tvm_vacc.errors import VaccError
from tvm_vacc.tvmc.main import EXIT_INTERNAL, EXIT_INTERRUPTED, user_error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Measure tvm_vacc against the limits of this machine, and against other programs.

    \b
    Example:
      python -m benchmarks kernels --json benchmarks/results/kernels.json
      python -m benchmarks report
    """


for _command in (
    kernels,
    checkpoint,
    gguf_command,
    model,
    accuracy,
    compile_command,
    report,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return cli.main(words, "python -m benchmarks", standalone_mode=False, obj=words) or 0
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:
        if words[:1] == ["--debug"]:
            raise
        shown = user_error(error)
        click.echo(f"Error: {shown}", err=True)
        return shown.exit_code if isinstance(shown, VaccError) else EXIT_INTERNAL
