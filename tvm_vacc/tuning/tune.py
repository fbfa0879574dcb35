"""Tunes a model on the machine at hand: kernel by kernel, resumed from what is recorded."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from tvm_vacc import compiler
from tvm_vacc.codegen.options import BuildOptions
from tvm_vacc.config import Config
from tvm_vacc.errors import ConfigError
from tvm_vacc.target import emits_c
from tvm_vacc.target_string import make_target
from tvm_vacc.tuning.gain import Gain, measure_gain
from tvm_vacc.tuning.progress import Report, TuningProgress
from tvm_vacc.tuning.search import Measuring, search
from tvm_vacc.tuning.tasks import Tasks, chosen, find_tasks
from tvm_vacc.tuning_records import KernelRecord, TuningRecords, digest_of

DEFAULT_TARGET = "tvm_vacc -mcpu=native"
DEFAULT_TRIALS = 64
DEFAULT_TIMEOUT = 30.0
"""Seconds for one schedule to be built, and to be timed."""


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
        records: all that is known now.
        kernels: what is known of those that were tuned.
        gain: of the model, measured; None where that was not asked for.
    """

    records: TuningRecords
    kernels: tuple[KernelRecord, ...]
    gain: Gain | None


def list_tasks(path: str | Path | Config, *, target: str = DEFAULT_TARGET, **given: Any) -> Tasks:
    """Return what there is to tune of a model; nothing is kept. Arguments: `tune`."""
    with tempfile.TemporaryDirectory() as directory:
        return find_tasks(path, _with_cores(make_target(target)), Path(directory), **given)


def tune(
    path: str | Path | Config,
    *,
    records: str | Path,
    target: str = DEFAULT_TARGET,
    tasks: str = "all",
    trials: int = DEFAULT_TRIALS,
    early_stopping: int | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    workers: int | None = None,
    progress: Report | None = None,
    listed: Callable[[Tasks], None] | None = None,
    compare: bool = True,
    **given: Any,
) -> Tuned:
    """Look for faster kernels of a model, and write what is found to the directory `records`.

    What is there already is gone on from. An interrupt ends it after the batch of schedules that is
    being measured.

    Args:
        path: see `tvm_vacc.compile`.
        records: a directory; made where it is missing.
        target: what for; it must run here.
        tasks: ``all``, or numbers such as ``0,2,3-5``.
        trials: schedules to have measured of each kernel, earlier ones included.
        early_stopping: leave a kernel after so many in a row without a better one.
        timeout: seconds for building, and for timing, one schedule.
        workers: processes that build; default: one a CPU of this process, and never more.
        progress: is told of every batch.
        listed: is told the tasks before the first.
        compare: whether the model is to be compiled without and with the records and timed.
        given: `dtype`, `prefill`, `context`, ... as `tvm_vacc.compile` takes them.

    Raises:
        VaccError: the model cannot be compiled, has nothing to tune, or the records are not for it.
    """
    tvm_target = make_target(target)
    if emits_c(tvm_target):
        raise ConfigError(f"target {target}: C sources cannot be timed here", "tune for tvm_vacc")
    with_cores, cpus = _with_cores(tvm_target), _cpus()
    measuring = Measuring.make(with_cores, min(workers or cpus, cpus), timeout)
    directory = Path(records).absolute()
    kept = TuningRecords.open_or_start(directory, tvm_target)
    # Beside the records: the artefacts that are compared may be large.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".tuning-") as beside:
        found = find_tasks(path, with_cores, Path(beside), **given)
        if listed is not None:
            listed(found)
        if not found.kernels:
            raise ConfigError(
                f"{path}: none of its kernels can be tuned", "compile it without tuning records"
            )
        wanted = chosen(found.kernels, tasks)
        clock = _Clock(len(wanted), trials, progress)
        for kernel in wanted:
            kept = search(
                kernel,
                kept,
                measuring,
                trials=trials,
                early_stopping=early_stopping,
                report=clock.next_kernel(),
            )
        gain = None
        if compare:
            untuned, tuned = (
                compiler.compile(
                    path,
                    output=Path(beside) / name,
                    target=target,
                    passport=False,
                    build=BuildOptions(tuning=used),
                    **given,
                )
                for name, used in (("untuned", None), ("tuned", kept))
            )
            gain = measure_gain(untuned, tuned)
    done = tuple(kept.kernels[digest_of(kernel.module)] for kernel in wanted)
    return Tuned(kept, done, gain)


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _with_cores(target: tvm.target.Target) -> tvm.target.Target:
    """Return `target` with the number of CPUs of this process, which MetaSchedule asks for."""
    return tvm.target.Target({**target.export(), "num-cores": _cpus()})


class _Clock:
    """Tells how far all kernels are, and how long they will still take."""

    def __init__(self, tasks: int, trials: int, report: Report | None) -> None:
        self._tasks = tasks
        self._trials = trials
        self._report = report or (lambda _: None)
        self._start = time.monotonic()
        self._task = 0
        self._measured = 0

    def next_kernel(self) -> Callable[[KernelRecord], None]:
        """Return what is to be told of the next kernel, first of all what was known of it."""
        self._task += 1
        seen: int | None = None

        def tell(record: KernelRecord) -> None:
            nonlocal seen
            self._measured += record.trials - (record.trials if seen is None else seen)
            seen = record.trials
            missing = max(0, self._trials - seen) + self._trials * (self._tasks - self._task)
            spent = time.monotonic() - self._start
            left = spent / self._measured * missing if self._measured else None
            self._report(TuningProgress(self._task, self._tasks, record, self._trials, left))

        return tell
