"""Attention in AMX tiles of bytes: codes of the cache as they are, rows as two digits.

What `schedules.gqa_digits` says of digits holds here too. Each is a tile of A, so that both meet a
tile of codes that is loaded once; codes of keys need not be raised, as there are products of signed
bytes. Sums are exact, and turned to fp32 once a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_amx import AmxTile
from schedules.gqa_amx_products import STAGES
from schedules.gqa_arguments import TileArguments
from schedules.gqa_digits import UNSIGNED_LEVELS, DigitProduct, store_digits, to_integer
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, TileShape
from schedules.gqa_sums import LOWEST
from schedules.int8_rows import inverse_scale, largest_magnitude
from schedules.isa import amx
from schedules.registers import LANES, reduce_registers, register, splat, vector, zeros
from schedules.scratch import scratch
from schedules.softmax_math import exp2, exp2_of_bits

_DIGITS = 2

FEWEST_ROWS = 8
"""Query heads a KV head from which tiles of 16 rows are faster: half as fast at 4."""

WEIGHT_BITS = 18
"""Bits to which a weight is right, before it becomes an integer of sixteen."""


@dataclass(frozen=True)
class DigitAmxTile(AmxTile):
    """See `AmxTile`.

    Attributes:
        key_scales: ``[BLOCK]`` fp32.
        weight_levels: ``[BLOCK]`` fp32: integers that a weight of one becomes, for each position.
        value_factor: ``[16]`` fp32: what an integer of the weights stands for.
        products: ``[rows at once, 2 * head_dim]`` int32: weights times values, a digit each.
        rescale: ``[STAGES * rows at once, 16]`` fp32: what a new maximum makes of older sums.
    """

    planes = _DIGITS
    key_product = amx.TileProduct("tdpbssd", "int32", b_stride=amx.ROW_BYTES)
    value_product = amx.TileProduct("tdpbusd", "int32", b_stride=amx.ROW_BYTES)

    key_scales: tirx.Buffer
    weight_levels: tirx.Buffer
    value_factor: tirx.Buffer
    products: tirx.Buffer
    rescale: tirx.Buffer

    @staticmethod
    def suits(product: object, group: int, head_dim: int) -> bool:
        """Tell whether operands are digits, fill tiles and gain by it."""
        fills = group >= FEWEST_ROWS and head_dim % (4 * amx.STEPS) == 0
        return isinstance(product, DigitProduct) and fills

    @classmethod
    def allocate(cls, shape: TileShape, args: TileArguments) -> DigitAmxTile:
        """See `Tile`."""
        rows = cls.rows_at_once()
        return cls(
            **cls._common(shape, args),
            key_scales=scratch((BLOCK,), "float32"),
            weight_levels=scratch((BLOCK,), "float32"),
            value_factor=scratch((LANES,), "float32"),
            products=scratch((rows, _DIGITS * shape.head_dim), "int32"),
            rescale=scratch((STAGES * rows, LANES), "float32"),
        )

    @classmethod
    def _left_rows(cls, rows: int, values: int, *, keys: bool) -> LeftRows:
        words = scratch((rows, _DIGITS * values // 4), "int32")
        return LeftRows(words, keys, scratch((rows, LANES), "float32") if keys else None)

    def _stage(self, first: Any, pages: Any) -> None:
        super()._stage(first, pages)
        context = self.args.context
        context.stage_value_scales(first, pages, self._last_page)
        with T.serial(0, pages) as p:
            scales = context.key_scales(first + p)
            T.buffer_store(self.key_scales, scales, [vector(p * LANES)])

    def _prepare(self, limit: Any) -> None:
        """Take weights for parts of the largest scale of a value that is seen: they are below one.

        So all rows of a token share a factor. It is NaN where a scale is none.
        """
        value_scales = self.args.context.value_scales
        assert value_scales is not None
        seen = []
        for v in range(0, BLOCK, LANES):
            lanes = vector(v)
            seen.append(register(T.Select(lanes < splat(limit), value_scales[lanes], zeros())))
        largest = largest_magnitude((scale[vector(0)] for scale in seen), positive=True)
        inverse = register(inverse_scale(largest, UNSIGNED_LEVELS))
        factor = largest[vector(0)] * splat(T.float32(1 / UNSIGNED_LEVELS))
        T.buffer_store(self.value_factor, factor, [vector(0)])
        for j, scale in enumerate(seen):
            levels = scale[vector(0)] * inverse[vector(0)]
            T.buffer_store(self.weight_levels, levels, [vector(j * LANES)])

    def _softmax(self, row: Any, place: Any, pages: int, limit: Any, fresh: Any) -> None:
        sums = self.segment
        assert self.query.factor is not None
        factor = register(self.query.factor[row, vector(0)])
        scores = []
        for j in range(pages):
            lanes = vector(j * LANES)
            score = self._joined(self.scores, place, BLOCK, lanes)
            score = score * factor[vector(0)] * self.key_scales[lanes]
            if limit is not None:
                score = T.Select(lanes < splat(limit), score, splat(T.float32(LOWEST)))
            scores.append(register(score))
        highest, total = reduce_registers(scores, T.max), register(zeros())
        with T.If(fresh == 0), T.Then():
            before = register(sums.buffer[row, sums.highest])
            T.buffer_store(highest, T.max(before[vector(0)], highest[vector(0)]), [vector(0)])
            rescale = register(exp2(before[vector(0)] - highest[vector(0)]))
            T.buffer_store(self.rescale, rescale[vector(0)], [place, vector(0)])
            T.buffer_store(total, sums.buffer[row, sums.total] * rescale[vector(0)], [vector(0)])
        T.buffer_store(sums.buffer, highest[vector(0)], [row, sums.highest])
        integers = []
        for j, score in enumerate(scores):
            lanes = vector(j * LANES)
            weight = exp2_of_bits(score[vector(0)] - highest[vector(0)], WEIGHT_BITS)
            if limit is not None:
                weight = T.Select(lanes < splat(limit), weight, zeros())
            held = register(weight)
            T.buffer_store(total, total[vector(0)] + held[vector(0)], [vector(0)])
            integers.append(to_integer(held[vector(0)] * self.weight_levels[lanes]))
        T.buffer_store(sums.buffer, total[vector(0)], [row, sums.total])
        store_digits(self.weights, place, integers)

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
        products, head_dim = self.products, self.shape.head_dim
        anew = tirx.const(True, "bool")
        self._add_values(place, row_tiles, steps, products, 0, anew, meanwhile, when)
        sums = self.segment.buffer
        factor = register(self.value_factor[vector(0)])

        def add(row: Any, old: Callable[[Any], Any] | None) -> None:
            with T.serial(0, head_dim // LANES) as v:
                lanes = vector(v * LANES)
                added = self._joined(products, row, head_dim, lanes) * factor[vector(0)]
                added = added if old is None else old(lanes) + added
                T.buffer_store(sums, added, [row0 + row, lanes])

        count: Any = row_tiles * amx.ROWS
        if when is not None:
            count = T.Select(when, count, 0)
        with T.serial(0, count) as row, T.If(fresh == 1):
            with T.Then():
                add(row, None)
            with T.Else():
                rescale = register(self.rescale[place + row, vector(0)])
                add(row, lambda lanes: sums[row0 + row, lanes] * rescale[vector(0)])

    @staticmethod
    def _joined(digits: tirx.Buffer, row: Any, width: int, lanes: Any) -> tirx.Expr:
        """Sums of both digits of a row, `width` apart, as one fp32."""
        high = digits[row, lanes]
        low = digits[row, T.ramp(lanes.base + width, 1, LANES)]
        return T.cast((high << splat(T.int32(8))) + low, f"float32x{LANES}")
