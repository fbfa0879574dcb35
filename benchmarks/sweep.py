"""Measures systems at the points of a sweep: A B A B, the limits between, ratios pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.measure import LimitsLike, Samples
from benchmarks.results import ModelRow
from benchmarks.spread import Spread
from benchmarks.system import SystemProcess
from benchmarks.work import Point, parts_of
from tvm_vacc.model_spec import ModelSpec

SAMPLE_SECONDS = 0.5
"""A sample of decoding has as many steps as take this long."""

MOST_STEPS = 32
"""Steps of a sample at most; the context grows by them."""


def sweep(
    systems: Sequence[SystemProcess],
    points: Sequence[Point],
    spec: ModelSpec,
    limits: LimitsLike,
    rounds: int,
) -> Iterator[ModelRow]:
    """Yield a row a point and system.

    Args:
        systems: the first one is what the others are compared with.
        points: of the sweep; a system skips those beyond its context.
        spec: of the model that all of them run.
        limits: measured before, between and after.
        rounds: samples of each.
    """
    for point in points:
        able = [
            system
            for system in systems
            if point.context + MOST_STEPS + point.tokens <= system.description.context
        ]
        yield from _measure(able, point, spec, limits, rounds)


def _measure(
    systems: Sequence[SystemProcess],
    point: Point,
    spec: ModelSpec,
    limits: LimitsLike,
    rounds: int,
) -> Iterator[ModelRow]:
    if not systems:
        return
    steps = [_steps(system, point) for system in systems]
    samples = [
        Samples(*parts_of(_middle(point, count), system.description, spec))
        for system, count in zip(systems, steps, strict=True)
    ]
    before = limits.measure()
    for _ in range(rounds):
        for system, count, collected in zip(systems, steps, samples, strict=True):
            seconds = _sample(system, point, count)
            after = limits.measure()
            collected.add(seconds, before, after)
            before = after
    for system, collected in zip(systems, samples, strict=True):
        pairs = zip(collected.seconds, samples[0].seconds, strict=True)
        yield ModelRow(
            system=system.name,
            work=point.work,
            context=point.context,
            batch=point.batch,
            tokens=point.tokens,
            row=collected.row(point.work, point.shape),
            ratio=None if collected is samples[0] else Spread.of([a / b for a, b in pairs]),
        )


def _steps(system: SystemProcess, point: Point) -> int:
    """Return the steps of a sample; runs a first one, which pays for page faults and contexts."""
    if point.work == "prefill":
        system.prefill(point.tokens)
        return 1
    system.decode(point.context, point.batch, 1)
    seconds = system.decode(point.context, point.batch, 1)
    return max(1, min(MOST_STEPS, round(SAMPLE_SECONDS / seconds)))


def _sample(system: SystemProcess, point: Point, steps: int) -> float:
    if point.work == "prefill":
        return system.prefill(point.tokens)
    return system.decode(point.context, point.batch, steps)


def _middle(point: Point, steps: int) -> Point:
    """Return the point that the steps of a sample are on average: the context grows with each."""
    return replace(point, context=point.context + (steps - 1) // 2)
