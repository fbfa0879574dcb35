"""Loads the compiled kernels of an artefact into TVM's virtual machine."""

from __future__ import annotations

import os
from pathlib import Path

import tvm
from tvm import relax

from tvm_vacc.errors import ArtifactError, RequestError

SHARED_LIBRARY = "model.so"
"""Kernels and bytecode, linked: needs a C++ compiler where it is made, none where it is loaded."""

KERNELS_IR = "kernels.ll"
BYTECODE = "bytecode.ro"
"""The form that needs no C++ compiler: LLVM IR, compiled at load, and the bytecode beside it."""


def load_executable(directory: Path) -> relax.VirtualMachine:
    """Return a virtual machine on the kernels in `directory`.

    Raises:
        ArtifactError: neither form is there, or TVM cannot load it.
    """
    try:
        if (library := directory / SHARED_LIBRARY).exists():
            module = tvm.runtime.load_module(str(library))
        else:
            # No file name extension leads TVM to this loader.
            load_bytecode = tvm.get_global_func("ffi.Module.load_from_file.relax.VMExecutable")
            module = load_bytecode(str(directory / BYTECODE))
            module.import_module(tvm.runtime.load_module(str(directory / KERNELS_IR)))
        return relax.VirtualMachine(module, tvm.cpu())
    except (RuntimeError, OSError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(
            f"{directory}: the compiled kernels cannot be loaded: {reason}",
            "compile the model again on this machine",
        ) from error


def set_threads(threads: int | None) -> None:
    """Set the worker threads of all kernels in this process.

    None means ``TVM_NUM_THREADS`` where that is set, else every CPU this process may run on: TVM's
    own default counts a pair of virtual CPUs as one.

    Raises:
        RequestError: fewer than one, or more than the process has CPUs.
    """
    cpus = len(os.sched_getaffinity(0))
    if threads is None:
        if "TVM_NUM_THREADS" in os.environ:
            return
        threads = cpus
    if not 1 <= threads <= cpus:
        raise RequestError(f"threads is {threads}", f"give a number from 1 to {cpus}")
    tvm.get_global_func("runtime.config_threadpool")(1, threads)
