"""Compiles a Relax module to machine code and stores it in an artefact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tvm
from tvm.ir.instrument import pass_instrument
from tvm.support import cc

from tvm_vacc.artifact.kernel_files import BYTECODE, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.build_pipeline import build_passes, plan_passes

COMPILERS = ("g++", "clang++", "c++", "gcc", "clang", "cc")
"""Linkers in order of preference; the objects come from LLVM, so any driver that links will do."""


def find_linker() -> str | None:
    """Return the path of a program that links; None where the machine has none."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def build_kernels(
    module: tvm.ir.IRModule,
    target: tvm.target.Target,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tvm.runtime.Executable:
    """Compile `module` for `target` by the pipeline of the ``tvm_vacc`` tag.

    Args:
        module: after all passes of the model's pipeline.
        target: what for.
        progress: is told the steps done and in all: the pipeline's passes, then machine code.
    """
    total = len(build_passes().passes) + 1
    counter = _PassCounter([item.info.name for item in build_passes().passes], progress, total)
    with tvm.transform.PassContext(instruments=[counter]):
        executable = tvm.compile(module, target=target)
    progress(total, total)
    return executable


def plan_memory(module: tvm.ir.IRModule, target: tvm.target.Target) -> tvm.ir.IRModule:
    """Return `module` as calls of scheduled kernels in planned memory: what C is printed from."""
    with target:
        return plan_passes()(module)


@pass_instrument
class _PassCounter:
    """Counts the passes of the build pipeline as they end."""

    def __init__(
        self, names: Sequence[str], progress: Callable[[int, int], None], total: int
    ) -> None:
        self._left = list(names)
        self._progress = progress
        self._total = total

    def run_after_pass(self, _module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM, of nested passes too."""
        if self._left and info.name == self._left[0]:
            self._left.pop(0)
            self._progress(self._total - 1 - len(self._left), self._total)


def store_kernels(executable: tvm.runtime.Executable, directory: Path) -> tuple[str, ...]:
    """Write the compiled code to `directory`; return the names of the files.

    With a C++ compiler on the machine this is one shared library; without, LLVM IR that is
    compiled when the artefact is loaded, which needs no compiler but a second or two.
    """
    compiler = find_linker()
    if compiler is not None:
        executable.export_library(
            str(directory / SHARED_LIBRARY), fcompile=cc.cross_compiler(compiler)
        )
        return (SHARED_LIBRARY,)
    bytecode = executable.mod
    kernels = [item for item in bytecode.imports if item.kind == "llvm"]
    [library] = kernels
    library.write_to_file(str(directory / KERNELS_IR), "ll")
    bytecode.write_to_file(str(directory / BYTECODE))
    return (BYTECODE, KERNELS_IR)
