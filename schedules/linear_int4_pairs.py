"""The int4 linear where no instruction multiplies bytes: 16-bit activations, two products at once.

``vpmaddwd`` (AVX2, AVX-512 without VNNI) multiplies two neighbouring 16-bit numbers each and adds
the exact products. Four bits of every 16 of the packed weights are two operands, so one mask or
shift makes them, and an activation need not be cut into two bytes: half the instructions of byte
products, and the same integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.integer_linear import Rows
from schedules.isa.vnni import dot_pairs
from schedules.linear_int4_nest import OFFSET, PLANES, STEP, Int4Linear
from schedules.parallel import for_each
from schedules.quantize_activations import QuantizedActivations
from schedules.scratch import scratch
from schedules.sums import Sums

PARTS = ((0, 2), (4, 6), (1, 3), (5, 7))
"""Which two values of a step stand in each four bits of 16, from the lowest on."""


def pair_activations(x: QuantizedActivations, tokens: Any, in_features: int, spare: int) -> Any:
    """Emit the copy of 16-bit activations in the order in which they are multiplied.

    Args:
        x: two rows of bytes a token.
        tokens: number of them.
        in_features: values a token.
        spare: rows of undefined pairs after the last, which may be read.

    Returns:
        ``[tokens + spare, in / 2]`` int32, a pair each.
    """
    pairs = scratch((tokens + spare, in_features // 2), "int32")

    def one_token(token: Any) -> None:
        def value(k: Any) -> tirx.Expr:
            high, low = (T.cast(x.rows[token * PLANES + p, k], "int32") for p in range(PLANES))
            return (high << 8) + low

        with T.serial(0, in_features // STEP) as step:
            for part, (first, second) in enumerate(PARTS):
                pair = (value(step * STEP + second) << 16) | (value(step * STEP + first) & 0xFFFF)
                T.buffer_store(pairs, pair, [token, step * len(PARTS) + part])

    for_each(tokens, 4 * in_features, one_token)
    return pairs


@dataclass(frozen=True)
class Int4PairsLinear(Int4Linear):
    """The same sums by products of 16 bits.

    Attributes:
        pairs: of `pair_activations`.
    """

    pairs: Any = None

    def group(
        self, sums: Sums, rows: Rows, block: Any, group: Any, channel: Any, vectors: int
    ) -> None:
        """Emit ``sums += scale * (x W)`` over one group."""
        lanes = self.isa.lanes
        every, quads = T.ramp(0, 1, lanes), T.ramp(0, 1, 4 * lanes)
        tokens = rows.count // PLANES
        start = T.bind((rows.start + rows.first) // PLANES)
        totals = [
            [T.alloc_buffer((lanes,), "int32") for _ in range(vectors)] for _ in range(tokens)
        ]
        for t, totals_row in enumerate(totals):
            first, second = (self.x.sums[(start + t) * PLANES + p, group] for p in range(PLANES))
            offset = T.bind((first * 256 + second) * -OFFSET)
            for total in totals_row:
                T.buffer_store(total, T.broadcast(offset, lanes), [every])
        packed = [T.alloc_buffer((4 * lanes,), self.weight.dtype) for _ in range(vectors)]
        with T.serial(0, self.x.group // STEP) as k:
            step = T.bind(group * (self.x.group // STEP) + k)
            self.prefetch(rows, block, step)
            for v, vector in enumerate(packed):
                at = T.ramp((channel + v * lanes) * 4, 1, 4 * lanes)
                T.buffer_store(vector, self.weight[block, step, at], [quads])
            for part in range(len(PARTS)):
                weights = [_four_bits(vector[quads], part) for vector in packed]
                for t, totals_row in enumerate(totals):
                    pair = T.bind(self.pairs[start + t, step * len(PARTS) + part])
                    for total, weight in zip(totals_row, weights, strict=True):
                        T.buffer_store(
                            total, dot_pairs(total[every], weight, pair, self.isa), [every]
                        )
        self.add_scaled(sums, rows, block, group, channel, [[t[every] for t in r] for r in totals])


def _four_bits(packed: Any, part: int) -> tirx.Expr:
    """Return bits ``4 part .. 4 part + 3`` of every 16 as int16 lanes."""
    lanes = packed.ty.dtype.lanes // 2
    words = tirx.reinterpret(f"uint16x{lanes}", packed)
    if part:
        words = words >> tirx.const(4 * part, words.ty)
    if part < len(PARTS) - 1:
        words = words & tirx.const(15, words.ty)
    return tirx.reinterpret(f"int16x{lanes}", words)
