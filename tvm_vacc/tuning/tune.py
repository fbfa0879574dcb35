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
from tvm_vacc.errors import ConfigError, TargetError
from tvm_vacc.machine.setup import Setup
from tvm_vacc.target import processor_of
from tvm_vacc.target_string import make_target
from tvm_vacc.tuning.attention_bench import AttentionBench
from tvm_vacc.tuning.gain import Gain, measure_gains
from tvm_vacc.tuning.linear_bench import LinearBench
from tvm_vacc.tuning.progress import Record, Report, TuningProgress
from tvm_vacc.tuning.search import Measuring, search
from tvm_vacc.tuning.tasks import (
    AttentionKernel,
    Kernel,
    LinearKernel,
    Tasks,
    TiledKernel,
    chosen,
    find_tasks,
)
from tvm_vacc.tuning.tile_search import Bench, search_tiles
from tvm_vacc.tuning_records import TuningRecords, digest_of

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
        gains: of the model, measured; none where that was not asked for.
    """

    records: TuningRecords
    kernels: tuple[Record, ...]
    gains: tuple[Gain, ...]


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

    What is there already is gone on from. An interrupt ends it after the batch of schedules, or the
    choice, that is being measured.

    Args:
        path: see `tvm_vacc.compile`.
        records: a directory; made where it is missing.
        target: what for; it must run here.
        tasks: ``all``, or numbers such as ``0,2,3-5``.
        trials: schedules, or choices, to have measured of each kernel, earlier ones included.
        early_stopping: leave a kernel after so many in a row without a better one.
        timeout: seconds for building, and for timing, one schedule.
        workers: processes that build; default: one a CPU of this process, and never more.
        progress: is told of every batch.
        listed: is told the tasks before the first.
        compare: whether the model is to be compiled without and with the records and timed.
        given: `dtype`, `prefill`, `context`, ... as `tvm_vacc.compile` takes them.

    Raises:
        VaccError: the model cannot be compiled, has nothing to tune, or the records are not for it;
            code for `target` does not run here.
    """
    tvm_target = make_target(target)
    _require_here(target, tvm_target)
    directory = Path(records).absolute()
    kept = TuningRecords.open_or_start(directory, tvm_target)
    # Beside the records: the artefacts that are compared may be large.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".tuning-") as beside:
        found = find_tasks(path, _with_cores(tvm_target), Path(beside), **given)
        if listed is not None:
            listed(found)
        if not found.kernels:
            raise ConfigError(
                f"{path}: none of its kernels can be tuned", "compile it without tuning records"
            )
        wanted = chosen(found.kernels, tasks)
        clock = _Clock(len(wanted), trials, progress)
        measuring = None
        if any(isinstance(kernel, Kernel) for kernel in wanted):
            most = min(workers or _cpus(), _cpus())
            measuring = Measuring.make(_with_cores(tvm_target), most, timeout)
        searches = _Searches(Setup.make(target), measuring, trials, early_stopping)
        for kernel in wanted:
            kept = searches.run(kernel, kept, clock.next_kernel())
        gains: tuple[Gain, ...] = ()
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
            gains = measure_gains(untuned, tuned)
    return Tuned(kept, tuple(_record_of(kernel, kept) for kernel in wanted), gains)


def _require_here(text: str, target: tvm.target.Target) -> None:
    """Refuse a target whose code this machine does not run."""
    processor = processor_of(target)
    if processor is None:
        raise ConfigError(f"target {text}: C sources cannot be timed here", "tune for tvm_vacc")
    if why_not := processor.why_not_here():
        raise TargetError(f"target {text}: {why_not}", "tune on the machine that it is for")


def _record_of(kernel: Kernel | TiledKernel, records: TuningRecords) -> Record:
    if isinstance(kernel, Kernel):
        return records.kernels[digest_of(kernel.module)]
    return records.tiled[kernel.of]


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _with_cores(target: tvm.target.Target) -> tvm.target.Target:
    """Return `target` with the number of CPUs of this process, which MetaSchedule asks for."""
    return tvm.target.Target({**target.export(), "num-cores": _cpus()})


@dataclass(frozen=True)
class _Searches:
    """Tunes kernels of either kind.

    Attributes:
        setup: of those of ours.
        measuring: of the others; None where none is to be tuned.
        trials: see `tune`.
        early_stopping: see `tune`.
    """

    setup: Setup
    measuring: Measuring | None
    trials: int
    early_stopping: int | None

    def run(
        self,
        kernel: Kernel | TiledKernel,
        records: TuningRecords,
        report: Callable[[Record, int], None],
    ) -> TuningRecords:
        """Tune one and return the records with it."""
        if isinstance(kernel, (LinearKernel, AttentionKernel)):
            bench: Bench
            if isinstance(kernel, LinearKernel):
                bench = LinearBench(kernel.of, kernel.tokens, kernel.among, self.setup)
            else:
                bench = AttentionBench(kernel.of, kernel.steps, self.setup)
            return search_tiles(
                kernel.of,
                self.setup.isa,
                records,
                bench,
                trials=self.trials,
                early_stopping=self.early_stopping,
                report=report,
            )
        assert self.measuring is not None
        return search(
            kernel,
            records,
            self.measuring,
            trials=self.trials,
            early_stopping=self.early_stopping,
            report=report,
        )


class _Clock:
    """Tells how far all kernels are, and how long they will still take."""

    def __init__(self, tasks: int, trials: int, report: Report | None) -> None:
        self._tasks = tasks
        self._trials = trials
        self._report = report or (lambda _: None)
        self._start = time.monotonic()
        self._task = 0
        self._measured = 0

    def next_kernel(self) -> Callable[[Record, int], None]:
        """Return what is to be told of the next kernel, first of all what was known of it.

        That takes what is known, and the trials that there will be in the end.
        """
        self._task += 1
        seen: int | None = None

        def tell(record: Record, trials: int) -> None:
            nonlocal seen
            self._measured += record.trials - (record.trials if seen is None else seen)
            seen = record.trials
            missing = max(0, trials - seen) + self._trials * (self._tasks - self._task)
            spent = time.monotonic() - self._start
            left = spent / self._measured * missing if self._measured else None
            self._report(TuningProgress(self._task, self._tasks, record, trials, left))

        return tell
