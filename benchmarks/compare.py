"""Runs the systems of a comparison one beside the other and collects what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks import tables
from benchmarks.machine import Run
from benchmarks.results import Limits as MeasuredLimits
from benchmarks.results import ModelResults, ModelRow, System
from benchmarks.spread import Spread
from benchmarks.sweep import MOST_STEPS, sweep
from benchmarks.system import Start, SystemProcess
from benchmarks.work import Point
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.errors import ConfigError
from tvm_vacc.machine.limits import Limits
from tvm_vacc.machine.setup import Setup
from tvm_vacc.model_spec import ModelSpec


def compare(
    run: Run,
    setup: Setup,
    starting: Sequence[Start],
    points: Sequence[Point],
    rounds: int,
    starts: int,
    show: Callable[[str], None],
) -> ModelResults:
    """Measure the systems at all points.

    Args:
        run: as it will be noted.
        setup: of the limits.
        starting: the systems; the first is an artefact of ours.
        points: of the sweep.
        rounds: samples of each figure.
        starts: how often each system is started, before the sweep.
        show: takes a line of text a figure.

    Raises:
        ConfigError: the artefact is no language model, or a system ends early.
    """
    manifest = read_manifest(starting[0].model / MANIFEST_NAME)
    if manifest.kind != "causal_lm":
        raise ConfigError(f"{starting[0].model}: is no language model", "give one")
    spec = ModelSpec.from_json(manifest.model_spec)
    limits = Limits(setup)
    times = [[_start(start) for _ in range(starts)] for start in starting]
    rows: list[ModelRow] = []
    with ExitStack() as stack:
        processes = [stack.enter_context(SystemProcess(start)) for start in starting]
        _make_names_differ(processes)
        for row in sweep(processes, points, spec, limits, rounds):
            rows.append(row)
            show(tables.model_line(row))
        most = max((r.batch * (r.context + MOST_STEPS) + r.tokens for r in rows), default=0)
        systems = [
            _system(process, spec, taken, most)
            for process, taken in zip(processes, times, strict=True)
        ]
    for system in systems:
        show(tables.system_line(system))
    measured = MeasuredLimits.of(limits.history or [limits.measure()])
    show(f"limits: {tables.limits_text(measured)}")
    return ModelResults(run, measured, tuple(systems), tuple(rows))


def _make_names_differ(processes: Sequence[SystemProcess]) -> None:
    seen: Counter[str] = Counter()
    for process in processes:
        seen[process.name] += 1
        if seen[process.name] > 1:
            process.name = f"{process.name} ({seen[process.name]})"


def _start(start: Start) -> tuple[float, float]:
    """Return the seconds until the system was ready, and those of its first request."""
    with SystemProcess(start) as process:
        return process.ready_seconds, process.prefill(1)


def _system(
    process: SystemProcess, spec: ModelSpec, starts: list[tuple[float, float]], positions: int
) -> System:
    description = process.description
    resident, mapped = process.resident_bytes()
    kv = positions * description.position_bytes
    return System(
        name=process.name,
        settings=description.settings,
        versions=description.versions,
        weight_bytes=description.weight_bytes,
        position_bytes=description.position_bytes,
        unit=description.unit,
        layers=spec.layers,
        ready_seconds=Spread.of([ready for ready, _ in starts]),
        first_seconds=Spread.of([first for _, first in starts]),
        memory={"weights": mapped, "kv": kv, "rest": max(0, resident - mapped - kv)},
    )
