"""What a result was measured on, and with which versions: no names of hosts or people."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tvm_vacc.artifact.manifest import installed_versions

DISTRIBUTIONS = ("tvm-vacc", "apache-tvm", "apache-tvm-ffi", "numpy", "torch", "onnx")


@dataclass(frozen=True)
class Machine:
    """The computer.

    Attributes:
        cpu: model name of the processor.
        flags: instruction sets of it, as the system names them.
        cores: CPUs that the process may use.
        memory: bytes of it.
        system: operating system and version.
    """

    cpu: str
    flags: tuple[str, ...]
    cores: int
    memory: int
    system: str


@dataclass(frozen=True)
class Run:
    """How a result came to be.

    Attributes:
        command: that made it.
        started: UTC, ISO 8601.
        machine: it ran on.
        versions: of the distributions that took part.
        target: the kernels were compiled for.
        threads: of every system measured.
    """

    command: str
    started: str
    machine: Machine
    versions: dict[str, str]
    target: str
    threads: int


def cpu_count() -> int:
    """Return how many CPUs this process may run on."""
    return len(os.sched_getaffinity(0))


def this_machine() -> Machine:
    """Describe the computer this runs on."""
    facts = _cpu_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        cpu=facts.get("model name") or platform.processor() or platform.machine(),
        flags=tuple(flag for flag in flags if flag.startswith(_VECTOR_FLAGS)),
        cores=cpu_count(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
    )


def describe_run(words: Sequence[str], target: str, threads: int) -> Run:
    """Describe a run of ``python -m benchmarks`` with the arguments `words`.

    Directories of paths among `words` are left out: they say where somebody keeps files.
    """
    shown = [Path(word).name if os.sep in word else word for word in words if word != "--debug"]
    return Run(
        command=shlex.join(["python", "-m", "benchmarks", *shown]),
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=this_machine(),
        versions={"python": platform.python_version(), **installed_versions(*DISTRIBUTIONS)},
        target=target,
        threads=threads,
    )


_VECTOR_FLAGS = ("avx", "fma", "f16c", "amx", "asimd", "sve", "i8mm", "bf16", "dotprod", "neon")


def _cpu_facts() -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first processor; nothing where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text().split("\n\n", maxsplit=1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
