"""Products of attention in floats: of bf16 pairs where the machine has them, else of fp32.

With dot products of bf16, both sides become bf16 and a word of a 16-bit cache is one step;
elsewhere, and for fp32 and int8 caches, values are widened to fp32 and a word is as many steps as
it holds values. Sums are fp32 and run in the order of the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_product import LeftRows, Product
from schedules.isa.bf16_dot import bf16_dot, bf16_instructions, round_two_to_bf16
from schedules.registers import LANES, Accumulators, register, splat, vector, zeros
from schedules.vector_math import widen

_ONES = 0x3F803F80
"""A pair of bf16 ones."""


@dataclass(frozen=True)
class FloatProduct(Product):
    """Products in fp32 or of bf16 pairs; see the module."""

    @property
    def dots(self) -> bool:
        """Whether words are multiplied as pairs of bf16."""
        wide = self.isa.dots_bf16 and self.isa.lanes == LANES
        return wide and self.word_values == 2

    @property
    def unit(self) -> str:
        """See `Product`."""
        return "bf16" if self.dots else "fp32"

    @property
    def staged(self) -> bool:
        """See `Product`."""
        return self.dots and self.cache_dtype != "bfloat16"

    @property
    def word_steps(self) -> int:
        """Columns of the left side that meet one word."""
        return 1 if self.dots else self.word_values

    def instructions(self) -> AbstractContextManager[Any]:
        """See `Product`."""
        return bf16_instructions(LANES) if self.dots else nullcontext()

    def left_rows(self, rows: int, values: int, *, keys: bool) -> LeftRows:
        """See `Product`: words are int32 pairs of bf16, or fp32."""
        if self.dots:
            words = -(-values // (2 * LANES)) * LANES
            return LeftRows(T.alloc_buffer((rows, words), "int32"), keys)
        return LeftRows(T.alloc_buffer((rows, values), "float32"), keys)

    def store_left(
        self, left: LeftRows, row: Any, values: Sequence[tirx.Buffer], factor: float = 1.0
    ) -> None:
        """See `Product`."""
        vectors = [value[vector(0)] for value in values]
        if factor != 1:
            vectors = [value * splat(T.float32(factor)) for value in vectors]
        if self.dots:
            for v in range(0, len(vectors), 2):
                low, high = vectors[v], vectors[v + 1] if v + 1 < len(vectors) else zeros()
                words = vector(v // 2 * LANES)
                T.buffer_store(left.buffer, round_two_to_bf16(low, high), [row, words])
            return
        for v, stored in enumerate(vectors):
            T.buffer_store(left.buffer, stored, [row, vector(v * LANES)])

    def add_weights(
        self, total: tirx.Buffer, weights: Sequence[tirx.Buffer], left: LeftRows, row: Any
    ) -> None:
        """See `Product`."""
        if not self.dots:
            super().add_weights(total, weights, left, row)
            return
        for v in range(0, len(weights), 2):
            pairs = left.buffer[row, vector(v // 2 * LANES)]
            added = bf16_dot(total[vector(0)], pairs, splat(T.int32(_ONES)))
            T.buffer_store(total, added, [vector(0)])

    def load_words(self, cache: tirx.Buffer, place: list[Any], word: Any) -> tirx.Expr:
        """See `Product`; to be staged, fp16 is rounded to bf16, to nearest even."""
        if not self.staged:
            return super().load_words(cache, place, word)
        halves = [cache[tuple([*place, vector(word * 2 + i * LANES)])] for i in range(2)]
        return round_two_to_bf16(*(widen(half, self.isa) for half in halves))

    def multiply_add(
        self,
        sums: Accumulators,
        left: LeftRows,
        row0: Any,
        word: Any,
        words: Sequence[tirx.Expr],
    ) -> None:
        """See `Product`."""
        operands = [self._operands(word) for word in words]
        for step in range(self.word_steps):
            for first, bank in sums.banks:
                with T.unroll(0, sums.bank_rows) as r:
                    factor = left.buffer[row0 + first + r, word * self.word_steps + step]
                    x = T.bind(splat(factor))
                    for j, operand in enumerate(operands):
                        total, y = bank[r, j, vector(0)], operand[step][vector(0)]
                        total = bf16_dot(total, x, y) if self.dots else total + x * y
                        T.buffer_store(bank, total, [r, j, vector(0)])

    def _operands(self, words: tirx.Expr) -> list[tirx.Buffer]:
        """The right sides of the steps of sixteen words."""
        if self.word_values == 1:
            return [register(words)]
        held = register(words, "int32")
        if self.dots:
            return [held]
        if self.scaled:
            codes = [(held[vector(0)] << _bits(24 - 8 * byte)) >> _bits(24) for byte in range(4)]
            return [register(T.cast(code, f"float32x{LANES}")) for code in codes]
        low, high = held[vector(0)], held[vector(0)] >> _bits(16)
        if self.cache_dtype == "bfloat16":
            pair = (low << _bits(16), low & splat(T.int32(-0x10000)))
            return [register(T.reinterpret(f"float32x{LANES}", value)) for value in pair]
        halves = [T.cast(half, f"int16x{LANES}") for half in (low, high)]
        return [
            register(widen(T.reinterpret(f"float16x{LANES}", half), self.isa)) for half in halves
        ]


def _bits(count: int) -> tirx.Expr:
    """Sixteen times `count`, to shift by."""
    return splat(T.int32(count))
