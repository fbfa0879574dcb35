"""What a machine can do at most, as measured, and what that allows a piece of work."""

from __future__ import annotations

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
