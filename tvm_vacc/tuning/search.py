"""Searches for a better schedule of one kernel.

TVM's MetaSchedule makes the choices, its builder and runner measure them, and its database keeps
them. Choices are random: its evolutionary search without its cost model, which needs xgboost, ends
after a batch or two.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_vacc.codegen.pipeline import schedule_passes
from tvm_vacc.errors import MissingExtraError
from tvm_vacc.tuning.build_schedule import build_schedule
from tvm_vacc.tuning.cpu_intrinsics import import_cpu_intrinsics
from tvm_vacc.tuning.interrupts import interrupt_held
from tvm_vacc.tuning.tasks import Kernel
from tvm_vacc.tuning_records import KernelRecord, TuningRecords, digest_of

FAILED_SECONDS = 1e10
"""What MetaSchedule notes of a schedule that could not be built or run."""

BATCH = 8
"""Schedules that are built side by side, then timed one after the other."""

TIMING = ms.runner.EvaluatorConfig(
    number=1, repeat=5, min_repeat_ms=20, enable_cpu_cache_flush=False
)
"""A schedule is run for 20 ms, five times; the least of the five counts."""


@dataclass(frozen=True)
class Measuring:
    """How schedules are built and timed; make it with `Measuring.make`.

    Attributes:
        target: what for; it says how many cores there are.
        builder: builds in processes of its own.
        runner: runs what was built in one more.
        timeout: seconds that building, or timing, one schedule may take.
    """

    target: tvm.target.Target
    builder: ms.builder.Builder
    runner: ms.runner.Runner
    timeout: float

    @classmethod
    def make(cls, target: tvm.target.Target, workers: int, timeout: float) -> Measuring:
        """Return what measures for `target`, building in so many processes.

        Raises:
            MissingExtraError: what MetaSchedule's processes need is not installed.
        """
        try:
            import cloudpickle  # noqa: F401
            import psutil  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"the package {error.name} is not installed", 'run: pip install "tvm-vacc[tune]"'
            ) from None
        builder = ms.builder.LocalBuilder(
            max_workers=workers, timeout_sec=timeout, f_build=build_schedule
        )
        runner = ms.runner.LocalRunner(timeout_sec=timeout, evaluator_config=TIMING)
        return cls(target, builder, runner, timeout)

    def seconds(self, modules: Sequence[tvm.ir.IRModule]) -> list[float | None]:
        """Return the least seconds of each; None where it cannot be built or run in time."""
        inputs = [ms.builder.BuilderInput(module, self.target) for module in modules]
        seconds: list[float | None] = []
        for module, built in zip(modules, self.builder.build(inputs), strict=True):
            if built.error_msg:
                seconds.append(None)
                continue
            arguments = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
            job = ms.runner.RunnerInput(built.artifact_path, "cpu", arguments)
            result = self.runner.run([job])[0].result()
            shutil.rmtree(os.path.dirname(built.artifact_path), ignore_errors=True)
            times = [float(value) for value in result.run_secs or ()]
            seconds.append(min(times, default=None))
        return seconds


def search(
    kernel: Kernel,
    records: TuningRecords,
    measuring: Measuring,
    *,
    trials: int,
    early_stopping: int | None,
    report: Callable[[KernelRecord, int], None],
) -> TuningRecords:
    """Measure schedules of `kernel` until there are `trials` in the records, and return these.

    Args:
        kernel: what to tune.
        records: what is known already; every batch is written there.
        measuring: how.
        trials: schedules to have measured in all.
        early_stopping: end after so many in a row without a better one; None: never.
        report: is told what is known, and `trials`, before the first batch and after each.
    """
    digest = digest_of(kernel.module)
    database = records.database()
    workload = database.commit_workload(kernel.module)
    known = records.kernels.get(digest)
    if known is None:
        known = KernelRecord(kernel.name, digest, _untuned(kernel, measuring), None, 0)
        records = records.adding(known)
    report(known, trials)
    idle = 0
    for candidates in _candidates(kernel, measuring.target, trials - known.trials, known.trials):
        if early_stopping is not None and idle >= early_stopping:
            break
        with interrupt_held():
            results = measuring.seconds([candidate.sch.mod for candidate in candidates])
            idle += len(candidates)
            for candidate, seconds in zip(candidates, results, strict=True):
                database.commit_tuning_record(
                    ms.database.TuningRecord(
                        candidate.sch.trace,
                        workload,
                        [FAILED_SECONDS if seconds is None else seconds],
                        measuring.target,
                        candidate.args_info,
                    )
                )
                if seconds is not None and seconds < (known.best or math.inf):
                    known, idle = replace(known, best=seconds), 0
            known = replace(known, trials=known.trials + len(candidates))
            records = records.adding(known)
            report(known, trials)
    return records


def _candidates(
    kernel: Kernel, target: tvm.target.Target, trials: int, seed: int
) -> Iterator[list[ms.search_strategy.MeasureCandidate]]:
    """Yield batches of random schedules, others for each `seed`."""
    if trials <= 0:
        return
    import_cpu_intrinsics()
    context = ms.TuneContext(
        mod=kernel.module,
        target=target,
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.ReplayTrace(),
        task_name=kernel.name,
        rand_state=seed + 1,
        num_threads=1,
    )
    context.pre_tuning(
        max_trials=trials,
        num_trials_per_iter=min(BATCH, trials),
        design_spaces=context.generate_design_space(),
    )
    while candidates := context.generate_measure_candidates():
        yield list(candidates)
        told = ms.runner.RunnerResult(None, "in the database")  # random choices learn nothing
        context.notify_runner_results(list(candidates), [told] * len(candidates))
    context.post_tuning()


def _untuned(kernel: Kernel, measuring: Measuring) -> float:
    """Return what the kernel takes as `build_passes` schedules it without records."""
    # A copy of all of it: schedules write into what nothing else seems to hold.
    copy = tvm.ir.load_json(tvm.ir.save_json(kernel.module))
    with measuring.target:
        scheduled = schedule_passes()(copy)
    with interrupt_held():
        [seconds] = measuring.seconds([scheduled])
    # So slow that it runs out of time: any schedule gains.
    return measuring.timeout if seconds is None else seconds
