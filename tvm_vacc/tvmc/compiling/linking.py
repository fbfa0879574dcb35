"""What links the kernels, for this machine or another one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from tvm_vacc.errors import ConfigError
from tvm_vacc.tvmc._sections import section

option = section("Target")


def linker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for each in reversed(_OPTIONS):
        command = each(command)
    return command


_OPTIONS = (
    option(
        "--cross-compiler",
        metavar="PROGRAM",
        help="What links the kernels; by default g++, for another machine <triple>-g++. none: "
        "they are compiled when the artefact is loaded.",
    ),
    option(
        "--cross-compiler-options",
        metavar="WORDS",
        help='Further arguments to it, such as "--sysroot=/opt/arm -fuse-ld=lld".',
    ),
)


def read_linker_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of this group out of `given`; return them for `tvm_vacc.compile`.

    Raises:
        ConfigError: a quotation is left open.
    """
    words = given.pop("cross_compiler_options") or ""
    try:
        options = shlex.split(words)
    except ValueError as error:
        raise ConfigError(f"--cross-compiler-options {words!r}: {error}", "close it") from None
    return {"cross_compiler": given.pop("cross_compiler"), "cross_compiler_options": options}
