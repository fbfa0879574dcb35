"""Measures work against the limits of the machine, both interleaved in one run.

A machine drifts, and others may use it: a time alone says little. So every sample of a piece of
work stands between two measurements of the limits, and is divided by what their mean allows; the
median of these fractions is what counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.spread import Spread
from tvm_vacc.machine.speeds import Bound, Speeds, Work
from tvm_vacc.runtime.executable import on_own_cpu

SAMPLE_SECONDS = 2e-3
"""Shortest sample: 2 ms, so that neither the clock nor one interrupt matters."""


class LimitsLike(Protocol):
    """What measures the limits: `tvm_vacc.machine.limits.Limits`, or figures made up by a test."""

    def measure(self) -> Speeds:
        """Return the limits as they are now."""
        ...


@dataclass(frozen=True)
class Case:
    """A piece of work that can be timed.

    Attributes:
        name: of the kernel, or of what the model does.
        shape: sizes and dtypes, for people; unique among the cases of one name.
        sample: does the work, several times where it is short, and returns the seconds of one;
            `timed` makes it of a call.
        bytes: that must at least come from memory or go there; what stays in caches counts nothing.
        operations: multiplications and additions, two a multiply-add.
        unit: of whose peak `operations` are a fraction: ``int8``, ``bf16`` or ``fp32``.
    """

    name: str
    shape: str
    sample: Callable[[], float]
    bytes: float
    operations: float
    unit: str


@dataclass(frozen=True)
class Row:
    """What was measured of one case.

    Attributes:
        name: as in `Case`, like `shape`, `bytes`, `operations` and `unit`.
        seconds: of one piece of work.
        limit: what binds: ``memory``, or the unit whose peak does.
        fraction: of that limit, sample by sample, against the limits measured round the sample.
    """

    name: str
    shape: str
    bytes: float
    operations: float
    unit: str
    seconds: Spread
    limit: str
    fraction: Spread


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """Return a sample of `call`: its seconds, of as many calls as make a sample long enough."""
    repeats = 0

    def sample() -> float:
        nonlocal repeats
        if not repeats:
            call()  # the first call pays for page faults and warms the caches
            start = time.perf_counter()
            call()
            once = time.perf_counter() - start
            repeats = max(1, round(SAMPLE_SECONDS / max(once, 1e-9)))
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats

    return sample


class Samples:
    """Collects samples of one piece of work, each with the limits round it, and makes the row.

    Args:
        parts: of the work, done one after the other; the row is in the unit of the first.
    """

    def __init__(self, *parts: Work) -> None:
        self._parts = parts
        self.seconds: list[float] = []
        self._bounds: list[Bound] = []

    def add(self, seconds: float, before: Speeds, after: Speeds) -> None:
        """Take one sample, and the limits measured before and after it."""
        self.seconds.append(seconds)
        self._bounds.append(before.mean(after).bound_of(self._parts))

    def row(self, name: str, shape: str) -> Row:
        """Return medians and quartiles; the limit is the one that binds most often."""
        limits = [bound.limit for bound in self._bounds]
        pairs = zip(self._bounds, self.seconds, strict=True)
        return Row(
            name=name,
            shape=shape,
            bytes=sum(part.bytes for part in self._parts),
            operations=sum(part.operations for part in self._parts),
            unit=self._parts[0].unit,
            seconds=Spread.of(self.seconds),
            limit=max(limits, key=limits.count),
            fraction=Spread.of([bound.seconds / seconds for bound, seconds in pairs]),
        )


def measure(case: Case, limits: LimitsLike, rounds: int) -> Row:
    """Sample `case` `rounds` times, the limits before, between and after."""
    case.sample()
    samples = Samples(Work(case.bytes, case.operations, case.unit))
    before = limits.measure()
    for _ in range(rounds):
        with on_own_cpu():
            seconds = case.sample()
        after = limits.measure()
        samples.add(seconds, before, after)
        before = after
    return samples.row(case.name, case.shape)
