"""What tuning tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm_vacc.tile_records import TileRecord
from tvm_vacc.tuning_records import KernelRecord

Record = KernelRecord | TileRecord
"""What is known of a kernel: of stock operators, or of ours."""


@dataclass(frozen=True)
class TuningProgress:
    """How far the tuning of one kernel has come.

    Attributes:
        task: its number, from 1 on, among those that are tuned.
        tasks: how many these are.
        record: what is known of it.
        trials: schedules or choices to be measured, earlier ones included.
        left: seconds until all kernels are done, as far as it can be told; None: it cannot.
    """

    task: int
    tasks: int
    record: Record
    trials: int
    left: float | None


Report = Callable[[TuningProgress], None]
"""Takes the progress of tuning."""
