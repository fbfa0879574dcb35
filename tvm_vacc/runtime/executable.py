"""Loads the compiled kernels of an artefact into TVM's virtual machine."""

from __future__ import annotations

import os
from pathlib import Path

import tvm
from tvm.runtime.vm import VirtualMachine

from tvm_vacc.artifact.kernel_files import BYTECODE, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.errors import ArtifactError, RequestError

THREADS_VARIABLE = "TVM_NUM_THREADS"

IDLE_SPINS = 20_000
"""Times an idle worker yields before it sleeps: about 10 ms, which covers the gaps within a token,
where waking it costs 30 us. TVM's own 300,000 keep a CPU busy for 0.1 s after every answer."""

_USERS_THREADS = os.environ.get(THREADS_VARIABLE)
_SHARE_ALL_CPUS = -3  # `kSpecifyThreadShareAllCore` of TVM's threading backend


def load_executable(directory: Path) -> VirtualMachine:
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
        return VirtualMachine(module, tvm.cpu())
    except (RuntimeError, OSError, ValueError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(
            f"{directory}: the compiled kernels cannot be loaded: {reason}",
            "compile the model again on this machine",
        ) from error


def set_threads(threads: int | None) -> None:
    """Set the threads of all kernels in this process, the calling one included.

    None means ``TVM_NUM_THREADS`` where the user has set that, else every CPU this process may run
    on: TVM's own default counts a pair of virtual CPUs as one, and pins threads to CPUs that the
    process was told to leave alone. Threads share the process's CPUs here. TVM keeps one pool of
    workers a calling thread; those of other threads learn the same from the environment.

    Raises:
        RequestError: fewer than one, or more than the process has CPUs.
    """
    cpus = sorted(os.sched_getaffinity(0))
    given = _USERS_THREADS if threads is None else str(threads)
    wanted = str(len(cpus)) if given is None else given
    if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(cpus)):
        name = THREADS_VARIABLE if threads is None else "threads"
        raise RequestError(f"{name} is {wanted}", f"give a number from 1 to {len(cpus)}")
    os.environ[THREADS_VARIABLE] = wanted
    os.environ["TVM_BIND_THREADS"] = "0"
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", str(IDLE_SPINS))
    configure = tvm.get_global_func("runtime.config_threadpool")
    # Without a list of CPUs the pool keeps the number of workers that it was made with.
    configure(_SHARE_ALL_CPUS, int(wanted), list(map(str, cpus)))
