"""What a machine can do at most, as measured, and what that allows a piece of work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MEMORY = "memory"
"""Name of the limit that is no peak: reading memory."""

FLOAT = "fp32"
"""The unit that every machine has."""


class Bound(NamedTuple):
    """The least time of a piece of work, and which limit sets it (roofline; Williams, 2009)."""

    seconds: float
    limit: str


class Work(NamedTuple):
    """A piece of work: bytes from memory, and operations of one unit."""

    bytes: float
    operations: float
    unit: str


@dataclass(frozen=True)
class Speeds:
    """The limits of a machine at one moment, all threads together.

    Attributes:
        read: bytes a second from memory.
        peaks: operations a second by unit (``int8``, ``bf16``, ``fp32``), two a multiply-add; a
            unit that the target lacks is missing.
    """

    read: float
    peaks: dict[str, float]

    def mean(self, other: Speeds) -> Speeds:
        """Return the mean of two measurements on the same machine."""
        peaks = {unit: (peak + other.peaks[unit]) / 2 for unit, peak in self.peaks.items()}
        return Speeds((self.read + other.read) / 2, peaks)

    def bound(self, nbytes: float, operations: float, unit: str) -> Bound:
        """Return the least time of moving `nbytes` and doing `operations`, side by side.

        Where the target lacks `unit`, kernels compute in fp32: its peak is the limit then.
        """
        unit = unit if unit in self.peaks else FLOAT
        return max(Bound(nbytes / self.read, MEMORY), Bound(operations / self.peaks[unit], unit))

    def bound_of(self, parts: Iterable[Work]) -> Bound:
        """Return the least time of doing `parts` one after the other, and what sets most of it."""
        bounds = [self.bound(*part) for part in parts]
        taken: defaultdict[str, float] = defaultdict(float)
        for bound in bounds:
            taken[bound.limit] += bound.seconds
        return Bound(sum(bound.seconds for bound in bounds), max(taken, key=lambda k: taken[k]))
