"""Attention in AMX tiles of bf16: 16-bit caches, rows and weights rounded to bf16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from schedules.gqa_amx import AmxTile
from schedules.gqa_arguments import TileArguments
from schedules.gqa_floats import FloatProduct
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import TileShape
from schedules.gqa_sums import LOWEST
from schedules.isa import amx
from schedules.registers import LANES, reduce_registers, register, splat, vector, zeros
from schedules.scratch import scratch
from schedules.softmax_math import exp2, exp2_of_bits

_PRODUCT = amx.TileProduct("tdpbf16ps", "float32", b_stride=amx.ROW_BYTES)

FEWEST_ROWS = 2
"""Query heads a KV head from which tiles of 16 rows are faster: 1.1 times at 2, twice at 4."""

WEIGHT_BITS = 13
"""Bits to which a weight is right, before it is rounded to the eight of bf16."""

RISE = 8.0
"""By how much scores must pass the maximum that weights are taken against before it follows them:
sums seldom need rescaling then, and weights stay below 2^8."""


@dataclass(frozen=True)
class FloatAmxTile(AmxTile):
    """See `AmxTile`."""

    planes = 1
    key_product = _PRODUCT
    value_product = _PRODUCT

    @staticmethod
    def suits(product: object, group: int, head_dim: int) -> bool:
        """Tell whether operands are pairs of bf16, fill tiles and gain by it."""
        fills = group >= FEWEST_ROWS and head_dim % (2 * amx.STEPS) == 0
        return isinstance(product, FloatProduct) and product.dots and fills

    @classmethod
    def allocate(cls, shape: TileShape, args: TileArguments) -> FloatAmxTile:
        """See `Tile`."""
        return cls(**cls._common(shape, args))

    @classmethod
    def _left_rows(cls, rows: int, values: int, *, keys: bool) -> LeftRows:
        return LeftRows(scratch((rows, values // 2), "int32"), keys)

    def _softmax(self, row: Any, place: Any, pages: int, limit: Any, fresh: Any) -> None:
        product, sums = self.args.context.product, self.segment
        scores = []
        for j in range(pages):
            lanes = vector(j * LANES)
            score = self.scores[place, lanes]
            if limit is not None:
                score = T.Select(lanes < splat(limit), score, splat(T.float32(LOWEST)))
            scores.append(register(score))
        best = reduce_registers(scores, T.max)
        highest, total = register(best[vector(0)]), register(zeros())
        with T.If(fresh == 0), T.Then():
            T.buffer_store(highest, sums.buffer[row, sums.highest], [vector(0)])
        with T.If(best[0] > highest[0] + T.float32(RISE)), T.Then():
            rescale = register(exp2(highest[vector(0)] - best[vector(0)]))
            with T.serial(0, self.shape.head_dim // LANES + 1) as v:
                lanes = vector(v * LANES)
                T.buffer_store(
                    sums.buffer, sums.buffer[row, lanes] * rescale[vector(0)], [row, lanes]
                )
            T.buffer_store(highest, best[vector(0)], [vector(0)])
        with T.If(fresh == 0), T.Then():
            T.buffer_store(total, sums.buffer[row, sums.total], [vector(0)])
        T.buffer_store(sums.buffer, highest[vector(0)], [row, sums.highest])
        weights = []
        for j, score in enumerate(scores):
            weight = exp2_of_bits(score[vector(0)] - highest[vector(0)], WEIGHT_BITS)
            if limit is not None:
                weight = T.Select(vector(j * LANES) < splat(limit), weight, zeros())
            weights.append(register(weight))
        product.store_left(self.weights, place, weights)
        product.add_weights(total, weights, LeftRows(self.weights.buffer, False), place)
        T.buffer_store(sums.buffer, total[vector(0)], [row, sums.total])

    def _multiply_values(
        self,
        row0: Any,
        place: Any,
        row_tiles: int,
        steps: Any,
        fresh: Any,
        meanwhile: Callable[[Any], None],
        when: Any = None,
    ) -> None:
        sums = self.segment.buffer
        self._add_values(place, row_tiles, steps, sums, row0, fresh == 1, meanwhile, when)
