"""The loop nest of the int4 linear, by products of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.integer_linear import BLOCK, IntegerLinear, Rows, Steps
from schedules.isa.vnni import dot_bytes
from schedules.lanes import spread
from schedules.scratch import scratch
from schedules.sums import Sums
from schedules.vector_math import widen

STEP = 8
"""Values of `in` a step: those of two dot products."""

OFFSET = 8
"""What is added to a weight to make it unsigned."""

PLANES = 2
"""Byte rows a token."""


@dataclass(frozen=True)
class Int4Linear(IntegerLinear):
    """Int32 sums over a group, fp32 sums over the groups: one row of them a token."""

    @property
    def steps_a_unit(self) -> int:
        """Steps of a group."""
        return self.x.group // STEP

    def allocate_sums(self) -> Any:
        """Allocate a row of fp32 sums a token."""
        return scratch((self.tiles.task_rows // PLANES, BLOCK), "float32")

    def multiply(self, sums: Sums, rows: Rows, steps: Steps, channel: Any, vectors: int) -> None:
        """Emit ``sums += x W`` for a tile, a group after the other."""
        steps_a_group = self.x.group // STEP
        with T.serial(0, steps.length // steps_a_group) as index:
            group = T.bind(steps.first // steps_a_group + index)
            self.group(sums, rows, steps.block, group, channel, vectors)

    def group(
        self, sums: Sums, rows: Rows, block: Any, group: Any, channel: Any, vectors: int
    ) -> None:
        """Emit ``sums += scale * (x W)`` over one group."""
        lanes = self.isa.lanes
        every, quads = T.ramp(0, 1, lanes), T.ramp(0, 1, 4 * lanes)
        tokens = rows.count // PLANES
        start = rows.start + rows.first
        totals = [
            [T.alloc_buffer((lanes,), "int32") for _ in range(vectors)] for _ in range(rows.count)
        ]
        for t in range(tokens):
            first, second = totals[PLANES * t : PLANES * (t + 1)]
            row = start + PLANES * t
            offset = T.bind((self.x.sums[row, group] * 256 + self.x.sums[row + 1, group]) * -OFFSET)
            for v in range(vectors):
                T.buffer_store(first[v], T.broadcast(T.int32(0), lanes), [every])
                T.buffer_store(second[v], T.broadcast(offset, lanes), [every])
        low, high = (
            [T.alloc_buffer((4 * lanes,), self.weight.dtype) for _ in range(vectors)]
            for _ in range(2)
        )
        with T.serial(0, self.x.group // STEP) as k:
            step = T.bind(group * (self.x.group // STEP) + k)
            self.prefetch(rows, block, step)
            for v in range(vectors):
                stored = self.weight[block, step, T.ramp((channel + v * lanes) * 4, 1, 4 * lanes)]
                T.buffer_store(low[v], stored & tirx.const(15, stored.ty), [quads])
                T.buffer_store(high[v], stored >> tirx.const(4, stored.ty), [quads])
            for r, totals_row in enumerate(totals):
                words = [T.bind(self.x.word(start + r, step * 2 + half)) for half in range(2)]
                for v, total in enumerate(totals_row):
                    product = dot_bytes(total[every], low[v][quads], words[0], self.isa)
                    product = dot_bytes(product, high[v][quads], words[1], self.isa)
                    T.buffer_store(total, product, [every])
        values = [
            [
                (high[every] << tirx.const(8, f"int32x{lanes}")) + low[every]
                for high, low in zip(totals[PLANES * t], totals[PLANES * t + 1], strict=True)
            ]
            for t in range(tokens)
        ]
        self.add_scaled(sums, rows, block, group, channel, values)

    def add_scaled(
        self, sums: Sums, rows: Rows, block: Any, group: Any, channel: Any, values: list[list[Any]]
    ) -> None:
        """Emit ``sums += scale * values``, the int32 sums of one group by token and vector."""
        lanes = self.isa.lanes
        every = T.ramp(0, 1, lanes)
        scale = T.alloc_buffer((lanes,), "float32")
        for v in range(len(values[0])):
            at = T.ramp(channel + v * lanes, 1, lanes)
            T.buffer_store(scale, widen(self.scale[block, group, at], self.isa), [every])
            for t, of_token in enumerate(values):
                place = (rows.first // PLANES + t, at)
                value = of_token[v].astype(f"float32x{lanes}")
                sums.store(sums[place] + value * scale[every], place)

    def finished(self, sums: Sums, token: Any, first: Any, channel: Any, column: Any) -> Any:
        """Return the sums, which the weights' scales are in, times the token's."""
        value = sums[token, channel]
        return value * spread(self.x.scales[first + token], value)
