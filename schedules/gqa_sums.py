"""Weighted sums of attention over a part of the context, and how the sums of two parts add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.registers import LANES, reduce_lanes, register, splat, vector, zeros
from schedules.softmax_math import exp2

LOWEST = -3.0e38
"""The maximum before the first position; finite, so that differences stay numbers."""


@dataclass(frozen=True)
class Sums:
    """Rows of sums of values times ``2 ** (score - highest)``.

    Attributes:
        buffer: ``[rows, head_dim + 32]`` fp32: the weighted values, sixteen partial sums of the
            weights, and the highest score sixteen times.
        head_dim: of the values.
    """

    buffer: tirx.Buffer
    head_dim: int

    @classmethod
    def allocate(cls, rows: int, head_dim: int) -> Sums:
        """Allocate sums; their content is undefined."""
        return cls(T.alloc_buffer((rows, head_dim + 2 * LANES), "float32"), head_dim)

    @property
    def total(self) -> tirx.Expr:
        """Columns of the partial sums of the weights."""
        return vector(self.head_dim)

    @property
    def highest(self) -> tirx.Expr:
        """Columns of the highest score."""
        return vector(self.head_dim + LANES)

    def clear(self, row: Any) -> None:
        """Make a row the sums over no position."""
        with T.serial(0, self.head_dim // LANES + 1) as v:
            T.buffer_store(self.buffer, zeros(), [row, vector(v * LANES)])
        T.buffer_store(self.buffer, splat(T.float32(LOWEST)), [row, self.highest])

    def copy(self, row: Any, other: Sums, other_row: Any) -> None:
        """Overwrite a row with one of `other`."""
        with T.serial(0, self.head_dim // LANES + 2) as v:
            lanes = vector(v * LANES)
            T.buffer_store(self.buffer, other.buffer[other_row, lanes], [row, lanes])

    def merge(self, row: Any, other: Sums, other_row: Any) -> None:
        """Add a row of `other`, of later positions."""
        old = register(self.buffer[row, self.highest])
        new = register(other.buffer[other_row, self.highest])
        highest = register(T.max(old[vector(0)], new[vector(0)]))
        T.buffer_store(self.buffer, highest[vector(0)], [row, self.highest])
        T.buffer_store(old, exp2(old[vector(0)] - highest[vector(0)]), [vector(0)])
        T.buffer_store(new, exp2(new[vector(0)] - highest[vector(0)]), [vector(0)])
        with T.serial(0, self.head_dim // LANES + 1) as v:
            lanes = vector(v * LANES)
            kept = self.buffer[row, lanes] * old[vector(0)]
            added = other.buffer[other_row, lanes] * new[vector(0)]
            T.buffer_store(self.buffer, kept + added, [row, lanes])

    def store(self, row: Any, out: tirx.Buffer, token: Any, head: Any) -> None:
        """Divide a row by its total weight and write it; 0 where nothing is seen."""
        total = reduce_lanes(self.buffer[row, self.total], lambda a, b: a + b)[vector(0)]
        # Not `total > 0`: NaN must stay one.
        factor = register(T.Select(total == zeros(), zeros(), splat(T.float32(1)) / total))
        with T.serial(0, self.head_dim // LANES) as v:
            lanes = vector(v * LANES)
            T.buffer_store(out, self.buffer[row, lanes] * factor[vector(0)], [token, head, lanes])
