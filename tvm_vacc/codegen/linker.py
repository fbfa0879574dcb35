"""The program that links an artefact's kernels, for this machine or another one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.support import cc
from tvm.target.codegen import llvm_get_system_triple

from tvm_vacc.artifact.processor import same_platform
from tvm_vacc.errors import ConfigError, TargetError

COMPILERS = ("g++", "clang++", "c++", "gcc", "clang", "cc")
"""Linkers in order of preference; the objects come from LLVM, so any driver that links will do."""

NONE = "none"
"""In a linker's place: kernels as LLVM IR, which are compiled when the artefact is loaded."""


@dataclass(frozen=True)
class Linker:
    """A compiler driver that links a shared library.

    Attributes:
        program: its path.
        options: further arguments.
    """

    program: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.program, *self.options])

    def link(self, executable: tvm.runtime.Executable, library: Path) -> None:
        """Write kernels and bytecode of `executable` to `library`.

        Raises:
            ConfigError: the program fails; with its first word on it.
        """
        compiler = cc.cross_compiler(self.program, list(self.options))
        try:
            executable.export_library(str(library), fcompile=compiler)
        except (RuntimeError, OSError) as error:
            lines = str(error).removeprefix("Compilation error:").strip().splitlines()
            raise ConfigError(
                f"{self.program} does not link the kernels: {[*lines, 'it says nothing'][0]}",
                "see --cross-compiler and --cross-compiler-options",
            ) from error


def find_linker(
    triple: str, cross_compiler: str | None = None, options: Sequence[str] = ()
) -> Linker | None:
    """Return what links code for `triple`; None where kernels are to stay LLVM IR.

    Args:
        triple: what the code is for.
        cross_compiler: name or path of the program; ``none`` for none. By default it is the first
            of `COMPILERS` for this machine, none of them being no error, and for another
            ``<triple>-g++``, as Debian names them.
        options: further arguments to it.

    Raises:
        ConfigError: `cross_compiler` is not there, or `options` are given and nothing links.
        TargetError: nothing is there that links for `triple`.
    """
    if cross_compiler is not None and cross_compiler != NONE:
        found = shutil.which(cross_compiler)
        if found is None:
            raise ConfigError(
                f"--cross-compiler: no program {cross_compiler!r}", "install it, or give its path"
            )
        return Linker(found, tuple(options))
    if cross_compiler is None and not same_platform(triple, str(llvm_get_system_triple())):
        gnu = gnu_triple(triple)
        found = shutil.which(f"{gnu}-g++")
        if found is None:
            raise TargetError(
                f"target for {triple}: no {gnu}-g++ is there to link for it",
                f"apt-get install g++-{gnu.replace('_', '-')}, name another program by "
                f"--cross-compiler, or give --cross-compiler {NONE} for kernels that are compiled "
                "when the artefact is loaded",
            )
        return Linker(found, tuple(options))
    candidates = () if cross_compiler == NONE else COMPILERS
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None and options:
        raise ConfigError("--cross-compiler-options: nothing is linked", "leave them out")
    return None if found is None else Linker(found, tuple(options))


def gnu_triple(triple: str) -> str:
    """Return a triple as GNU tools are named: ``aarch64-linux-gnu`` for all of its spellings."""
    parts = triple.split("-")
    if len(parts) == 4:  # with the name of a maker, which Debian leaves out
        del parts[1]
    return "-".join(parts)
