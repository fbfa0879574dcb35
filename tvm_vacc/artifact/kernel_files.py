"""Names of the files that hold an artefact's compiled code, in its forms."""

from __future__ import annotations

from typing import Final

SHARED_LIBRARY: Final = "model.so"
"""Kernels and bytecode, linked: needs a C++ compiler where it is made, none where it is loaded."""

KERNELS_IR: Final = "kernels.ll"
BYTECODE: Final = "bytecode.ro"
"""The form that needs no C++ compiler: LLVM IR, compiled at load, and the bytecode beside it."""

C_BUILD: Final = "CMakeLists.txt"
"""Beside C sources: what a target ``tvm_vacc/c`` gives, to be built by another toolchain."""

LIBRARY_SUFFIX: Final = ".so"
"""Of a plain graph in one file, weights inside, that no manifest stands beside."""
