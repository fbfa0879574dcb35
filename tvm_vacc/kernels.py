"""Compiles a Relax module to machine code and stores it in an artefact."""

from __future__ import annotations

import shutil
from pathlib import Path

import tvm
from tvm.support import cc

from tvm_vacc.runtime.executable import BYTECODE, KERNELS_IR, SHARED_LIBRARY

COMPILERS = ("g++", "clang++", "c++", "gcc", "clang", "cc")
"""Linkers in order of preference; the objects come from LLVM, so any driver that links will do."""


def build_kernels(module: tvm.ir.IRModule, target: tvm.target.Target) -> tvm.runtime.Executable:
    """Compile `module` for `target` by the pipeline of the ``tvm_vacc`` tag."""
    return tvm.compile(module, target=target)


def store_kernels(executable: tvm.runtime.Executable, directory: Path) -> tuple[str, ...]:
    """Write the compiled code to `directory`; return the names of the files.

    With a C++ compiler on the machine this is one shared library; without, LLVM IR that is
    compiled when the artefact is loaded, which needs no compiler but a second or two.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
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
