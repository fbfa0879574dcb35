"""What a compile tells its caller while it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one phase has come.

    Attributes:
        phase: what is done now: `export`, `passes`, `kernels`, `weights`.
        done: units done so far, `0 <= done <= total`; a phase starts with 0 and ends with `total`.
        total: units of the whole phase.
        unit: what is counted: `layers`, `passes`, `bytes`.
    """

    phase: str
    done: int
    total: int
    unit: str
