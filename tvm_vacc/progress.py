"""What a compile tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one phase has come.

    Attributes:
        phase: what is done now: `dataset`, `export`, `passes`, `kernels`, `calibrate`, `weights`,
            `reference`, `passport`.
        done: units done so far, `0 <= done <= total`; a phase starts with 0 and ends with `total`.
        total: units of the whole phase.
        unit: what is counted: `passes`, `steps`, `bytes`.
        note: what else is to be said of it.
        skipped: units of `done` that took no time: they were there already.
    """

    phase: str
    done: int
    total: int
    unit: str
    note: str = ""
    skipped: int = 0


Report = Callable[[Progress], None]
"""Takes the progress of a compile."""
