"""Loads the compiled kernels of an artefact into TVM's virtual machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import tvm
from tvm.runtime.vm import VirtualMachine

from tvm_vacc.artifact.kernel_files import BYTECODE, C_BUILD, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.errors import ArtifactError, RequestError

THREADS_VARIABLE = "TVM_NUM_THREADS"

IDLE_SPINS = 20_000
"""Times an idle worker yields before it sleeps: about 10 ms, which covers the gaps within a token,
where waking it costs 30 us. TVM's own 300,000 keep a CPU busy for 0.1 s after every answer."""

_BIND_VARIABLE = "TVM_BIND_THREADS"
_USERS_THREADS = os.environ.get(THREADS_VARIABLE)

# `kSpecifyOneCorePerThread` and `kSpecifyThreadShareAllCore` of TVM's threading backend.
_ONE_CPU_EACH, _SHARE_ALL_CPUS = -2, -3

_loaded: dict[Path, tuple[int, int]] = {}
"""Device and inode of the first library that was loaded from each path."""

_callers_cpu: int | None = None
"""The CPU that pinned workers leave to the thread that calls; None where nothing is pinned."""


def load_executable(directory: Path) -> VirtualMachine:
    """Return a virtual machine on the kernels in `directory`.

    Raises:
        ArtifactError: neither form is there, the artefact is C sources, or TVM cannot load it.
    """
    if (directory / C_BUILD).exists():
        raise ArtifactError(
            f"{directory}: holds C sources for another toolchain, no code for this machine",
            "build them with cmake, or compile the model for the target tvm_vacc",
        )
    try:
        if (library := directory / SHARED_LIBRARY).exists():
            module = _load_library(library)
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


def _load_library(path: Path) -> tvm.runtime.Module:
    """Load `path`, which may have replaced another file of that name since it was loaded last.

    The dynamic linker knows libraries by their path and would return the old one.
    """
    status = path.stat()
    identity = (status.st_dev, status.st_ino)
    if _loaded.setdefault(path.resolve(), identity) == identity:
        return tvm.runtime.load_module(str(path))
    with tempfile.TemporaryDirectory() as folder:
        return tvm.runtime.load_module(shutil.copy(path, folder))


def set_threads(threads: int | None) -> None:
    """Set the threads of all kernels in this process, the calling one included.

    None means ``TVM_NUM_THREADS`` where the user has set that, else every CPU this process may run
    on: TVM's own default counts a pair of virtual CPUs as one, and pins threads to CPUs that the
    process was told to leave alone. Where there is a thread for every CPU of the process, each
    worker stays on a CPU of its own, and `on_own_cpu` keeps the caller on the one that is left;
    fewer threads share the CPUs. TVM keeps one pool of workers a calling thread; those of other
    threads learn the number from the environment.

    Raises:
        RequestError: fewer than one, or more than the process has CPUs.
    """
    global _callers_cpu
    cpus = sorted(os.sched_getaffinity(0))
    given = _USERS_THREADS if threads is None else str(threads)
    wanted = str(len(cpus)) if given is None else given
    if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= len(cpus)):
        name = THREADS_VARIABLE if threads is None else "threads"
        raise RequestError(f"{name} is {wanted}", f"give a number from 1 to {len(cpus)}")
    pin = 1 < int(wanted) == len(cpus)
    _callers_cpu = cpus[0] if pin else None
    os.environ[THREADS_VARIABLE] = wanted
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", str(IDLE_SPINS))
    configure = tvm.get_global_func("runtime.config_threadpool")
    os.environ[_BIND_VARIABLE] = str(int(pin))
    # Without a list of CPUs the pool keeps the number of workers that it was made with.
    configure(_ONE_CPU_EACH if pin else _SHARE_ALL_CPUS, int(wanted), list(map(str, cpus)))
    os.environ[_BIND_VARIABLE] = "0"  # other pools would pin by TVM's own order of CPUs


@contextmanager
def on_own_cpu() -> Iterator[None]:
    """Keep the calling thread off its pinned workers' CPUs for the length of a step.

    A system may leave two threads that have just woken on one CPU for a tenth of a second, which
    halves the speed of a short answer.
    """
    if _callers_cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):  # the system has taken the CPU away: it is only slower
        os.sched_setaffinity(0, {_callers_cpu})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)
