"""The `tvmc` command: its subcommands, and what becomes of every error.

Exit codes: 0 done, 1 no subcommand given, 4 an error of the user's, 5 an optional dependency is
missing, 70 a fault of the program's own, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import click

from tvm_vacc import __version__
from tvm_vacc.errors import ConfigError, MissingExtraError, VaccError, VaccWarning
from tvm_vacc.tvmc.commands.chat import chat
from tvm_vacc.tvmc.commands.compare import compare
from tvm_vacc.tvmc.commands.compile import compile_command
from tvm_vacc.tvmc.commands.generate import generate
from tvm_vacc.tvmc.commands.inspect import inspect
from tvm_vacc.tvmc.commands.profile import profile
from tvm_vacc.tvmc.commands.run import run
from tvm_vacc.tvmc.commands.tune import tune
from tvm_vacc.tvmc.commands.verify import verify
from tvm_vacc.tvmc.presets import options_of, read_preset

EXIT_NO_SUBCOMMAND = 1
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended

COMPILE_MODULES = frozenset(["torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxsim"])
"""What the extra `compile` brings."""


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Shell completion: put  eval "$(_TVMC_COMPLETE=bash_source tvmc)"  into ~/.bashrc; '
    "zsh_source and fish_source are there for the other shells.",
)
@click.version_option(__version__, prog_name="tvmc")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--config", metavar="NAME|FILE", help="The same as --config of the subcommand.")
@click.pass_context
def cli(context: click.Context, debug: bool, config: str | None) -> None:
    """Compile GLM-4 checkpoints and ONNX models, and run what came out.

    \b
    Example:
      tvmc compile --target tvm_vacc glm-4-9b-chat-hf -o glm4
      tvmc chat glm4
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        context.exit(EXIT_NO_SUBCOMMAND)
    if config is not None:
        name = context.invoked_subcommand
        context.default_map = {name: options_of(read_preset(config), cli.commands[name], config)}


for _command in (compile_command, generate, chat, run, tune, inspect, profile, verify, compare):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tvmc` with `arguments` (default: the process's) and return its exit code."""
    _tolerate_other_encodings()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _warnings_in_one_line():
            return cli.main(words, prog_name="tvmc", standalone_mode=False) or 0
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:
        if words[:1] == ["--debug"]:
            traceback.print_exc()
        shown = user_error(error)
        click.echo(f"Error: {shown}", err=True)
        return shown.exit_code if isinstance(shown, VaccError) else EXIT_INTERNAL


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show a warning of ours once, as one line, without the place in the sources it comes from."""
    with warnings.catch_warnings():
        as_python_does = warnings.showwarning
        shown: set[str] = set()  # Python forgets what it has shown whenever filters change

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, VaccWarning):
                if str(message) not in shown:
                    click.echo(f"Warning: {message}", err=True)
                shown.add(str(message))
            else:
                as_python_does(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _tolerate_other_encodings() -> None:
    """Show "?" for a character the terminal lacks; let bytes that are no text reach our checks."""
    handlers = ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace"))
    for stream, errors in handlers:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def user_error(error: Exception) -> VaccError | str:
    """Return the error of ours that `error` amounts to; a line of text for a fault of the program.

    The line says how to get the traceback, for a report.
    """
    if isinstance(error, VaccError):
        return error
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "tvmc"
        return ConfigError(error.format_message().rstrip("."), f"see {command} --help")
    if isinstance(error, click.ClickException):
        return ConfigError(error.format_message())
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        if module in COMPILE_MODULES:
            return MissingExtraError(
                f"the package {module} is not installed", 'run: pip install "tvm-vacc[compile]"'
            )
    if isinstance(error, OSError):
        return ConfigError(f"{error.filename or 'the output'}: {error.strerror or error}")
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}; tvmc --debug shows where, please report it"
