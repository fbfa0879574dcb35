"""What is written: an artefact's directory, a tar of it, a shared library, C sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.tvmc._sections import section

option = section("Output")

_BY_SUFFIX = {".tar": "tar", ".so": "so"}


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


_OPTIONS = (
    option("-o", "--output", type=click.Path(path_type=Path), help="What is written."),
    option(
        "-f",
        "--output-format",
        type=click.Choice(["dir", "tar", "so", "mlf"]),
        help="dir: an artefact's directory; tar: the same in one file; so: a shared library with "
        "the weights inside, of a plain graph; mlf: C99 sources, as --target tvm_vacc/c gives "
        "them. Default: as the output's name ends, else dir.",
    ),
    option(
        "--module-name",
        metavar="NAME",
        help="The function that opens a shared library; elsewhere the artefact's name.",
    ),
    option(
        "--executor",
        metavar="NAME",
        help="graph, vm or aot: accepted, Relax's virtual machine takes the place of all three.",
    ),
    option("--runtime", metavar="NAME", help="cpp; for crt, the runtime in C, take -f mlf."),
    option("--executor-graph-link-params", metavar="BOOL", hidden=True),
    option("--executor-aot-link-params", metavar="BOOL", hidden=True),
    option("--executor-aot-interface-api", metavar="NAME", hidden=True),
    option("--executor-aot-unpacked-api", metavar="BOOL", hidden=True),
    option("--executor-aot-workspace-byte-alignment", metavar="N", hidden=True),
    option("--executor-aot-constant-byte-alignment", metavar="N", hidden=True),
    option("--runtime-cpp-system-lib", metavar="BOOL", hidden=True),
    option("--runtime-crt-system-lib", metavar="BOOL", hidden=True),
    option("--workspace-pools", metavar="NAMES", hidden=True),
)


@dataclass(frozen=True)
class OutputOptions:
    """The options of this group.

    Attributes:
        output: what is written; None where the model's name is to decide.
        format: of `tvm_vacc.tvmc.packages.FORMATS`.
        module_name: see the option.
    """

    output: Path | None
    format: str
    module_name: str | None

    def path(self, default: Path) -> Path:
        """Return what is written, `default` being the artefact's directory where none is named."""
        if self.output is not None:
            return self.output
        suffix = {form: suffix for suffix, form in _BY_SUFFIX.items()}.get(self.format, "")
        return default.with_name(default.name + suffix)


def read_output_options(given: dict[str, Any]) -> OutputOptions:
    """Take the options of this group out of `given`; say what an accepted one comes to.

    Raises:
        ConfigError: an executor, a runtime or one of their options cannot be had.
    """
    _executor(given)
    _runtime(given)
    if given.pop("workspace_pools"):
        raise ConfigError(
            "--workspace-pools: memory is planned in one pool", "with -f mlf your code provides it"
        )
    output: Path | None = given.pop("output")
    form: str | None = given.pop("output_format")
    guessed = _BY_SUFFIX.get(output.suffix, "dir") if output is not None else "dir"
    if form == "so" and guessed == "tar":
        _note("-f so with a .tar: a tar of the artefact, whose kernels are a shared library")
        form = "tar"
    return OutputOptions(output, form or guessed, given.pop("module_name"))


def _executor(given: dict[str, Any]) -> None:
    name = given.pop("executor")
    if name not in (None, "graph", "vm", "aot"):
        raise ConfigError(f"--executor {name}: there is no such executor", "give vm")
    if name in ("graph", "aot"):
        _note(f"--executor {name}: Relax's virtual machine takes its place")
    links = [given.pop(f"executor_{kind}_link_params") for kind in ("graph", "aot")]
    if any(_is_true(value) for value in links):
        _note("link-params: -f so puts the weights into the library")
    api = given.pop("executor_aot_interface_api")
    if api == "c" or _is_true(given.pop("executor_aot_unpacked_api")):
        raise ConfigError("--executor-aot-*: there is no such interface", "take -f mlf: it is in C")
    for name in ("workspace", "constant"):
        if given.pop(f"executor_aot_{name}_byte_alignment") is not None:
            raise ConfigError(
                f"--executor-aot-{name}-byte-alignment: tensors begin at multiples of 64 bytes",
                "leave the option out",
            )


def _runtime(given: dict[str, Any]) -> None:
    name = given.pop("runtime")
    if name == "crt":
        raise ConfigError(
            "--runtime crt: TVM 0.20 dropped the runtime in C",
            "take -f mlf: C sources that need no runtime",
        )
    if name not in (None, "cpp"):
        raise ConfigError(f"--runtime {name}: there is no such runtime", "give cpp")
    if any(_is_true(given.pop(f"runtime_{kind}_system_lib")) for kind in ("cpp", "crt")):
        raise ConfigError(
            "--runtime-*-system-lib: nothing is linked into the program",
            "take -f mlf: sources that are linked into yours",
        )


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() in ("1", "true")


def _note(text: str) -> None:
    click.echo(f"Note: {text}", err=True)
