"""Measures a compile by phase, and what plainly copying the same bytes would take.

The compile runs in a process of its own, as a user's does, so that its memory is its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.memory_watch import MemoryWatch
from benchmarks.results import Phase
from tvm_vacc.errors import ConfigError
from tvm_vacc.light_tvm import torch_hidden
from tvm_vacc.progress import Progress
from tvm_vacc.tvmc.main import user_error

BLOCK = 8 << 20
"""Bytes that the copy reads and writes at a time."""

START = "start"
"""Name of what comes before the first phase: imports, reading the checkpoint's headers."""


def compile_by_phase(
    model: Path, output: Path, target: str, dtype: str | None
) -> tuple[Phase, ...]:
    """Compile `model` in this process, and return time and memory of each phase."""
    began, name = time.perf_counter(), START
    phases: list[Phase] = []

    with MemoryWatch() as watch:

        def report(progress: Progress) -> None:
            if progress.phase != name:
                finish(progress.phase)

        def finish(following: str) -> None:
            nonlocal began, name
            now = time.perf_counter()
            phases.append(Phase(name, now - began, *watch.take()))
            began, name = now, following

        with torch_hidden():  # as `tvmc compile` does
            from tvm_vacc import compiler

        compiler.compile(model, output=output, target=target, dtype=dtype, progress=report)
        finish("")
    return tuple(phases)


def compile_in_subprocess(
    model: Path, output: Path, target: str, dtype: str | None
) -> tuple[Phase, ...]:
    """Do the same in a process of its own.

    Raises:
        ConfigError: the compile failed; the message is its last line.
    """
    words = [str(model), str(output), target, dtype or ""]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compiling", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ConfigError(lines[-1] if lines else f"the compile ended with {done.returncode}")
    return tuple(Phase(**phase) for phase in json.loads(done.stdout.splitlines()[-1]))


def copy_seconds(sources: Iterable[Path], read: int, written: int, destination: Path) -> float:
    """Return the seconds of reading the first `read` bytes of files and writing `written` bytes.

    What is written is what was read, as far as it goes, and synced at the end.
    """
    start = time.perf_counter()
    with destination.open("wb") as target:
        for source in sources:
            with source.open("rb", buffering=0) as stream:
                while read > 0 and (block := stream.read(min(BLOCK, read))):
                    read -= len(block)
                    target.write(block[:written])
                    written -= min(written, len(block))
        while written > 0:
            written -= target.write(bytes(min(BLOCK, written)))
        target.flush()
        os.fsync(target.fileno())
    seconds = time.perf_counter() - start
    destination.unlink()
    return seconds


def forget(files: Iterable[Path]) -> None:
    """Ask the system to drop `files` from its cache, so that reading them reads the disk."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def median_phases(compiles: Sequence[tuple[Phase, ...]]) -> tuple[Phase, ...]:
    """Return the medians of several compiles, phase by phase."""
    return tuple(
        Phase(
            name=phases[0].name,
            seconds=statistics.median(phase.seconds for phase in phases),
            anonymous=round(statistics.median(phase.anonymous for phase in phases)),
            resident=round(statistics.median(phase.resident for phase in phases)),
        )
        for phases in zip(*compiles, strict=True)
    )


def main() -> int:
    """Compile as the arguments say; the last line of the output is the phases as JSON."""
    model, output, target, dtype = sys.argv[1:]
    try:
        phases = compile_by_phase(Path(model), Path(output), target, dtype or None)
    except Exception as error:
        print(user_error(error), file=sys.stderr)
        return 1
    print(json.dumps([asdict(phase) for phase in phases]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
