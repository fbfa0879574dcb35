"""The inner products of attention: rows of fp32 against words of the KV cache.

Where the machine has dot products of bf16 pairs, both sides become bf16 and a word is one step;
elsewhere, and for fp32 caches, values are widened to fp32 and a word is as many steps as it holds
values. Sums are fp32 and run in the order of the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.isa.bf16_dot import bf16_dot, round_two_to_bf16
from schedules.kv_cache import WORD_VALUES
from schedules.registers import LANES, Accumulators, register, splat, vector, zeros
from schedules.vector_math import widen

_ONES = 0x3F803F80
"""A pair of bf16 ones."""


@dataclass(frozen=True)
class Product:
    """How words of a cache of `cache_dtype` are multiplied on `isa`."""

    cache_dtype: str
    isa: Isa

    @property
    def word_values(self) -> int:
        """Values of the cache in one word."""
        return WORD_VALUES[self.cache_dtype]

    @property
    def dots(self) -> bool:
        """Whether words are multiplied as pairs of bf16."""
        return self.isa.dots_bf16 and self.word_values == 2

    @property
    def staged(self) -> bool:
        """Whether words must be converted before they are multiplied.

        Then it pays to do so once for all rows of a tile; widening is done in the registers.
        """
        return self.dots and self.cache_dtype != "bfloat16"

    @property
    def word_steps(self) -> int:
        """Columns of the left side that meet one word."""
        return 1 if self.dots else self.word_values

    def left_buffer(self, rows: int, values: int) -> tirx.Buffer:
        """Allocate rows of `values` for the left side, filled by `store_left`."""
        if self.dots:
            return T.alloc_buffer((rows, -(-values // (2 * LANES)) * LANES), "int32")
        return T.alloc_buffer((rows, values), "float32")

    def store_left(self, left: tirx.Buffer, row: Any, v: int, values: list[tirx.Expr]) -> None:
        """Store one or two vectors, the `v`-th of the row and the next; `v` is even."""
        if self.dots:
            low, high = values if len(values) == 2 else (values[0], zeros())
            T.buffer_store(left, round_two_to_bf16(low, high), [row, vector(v // 2 * LANES)])
            return
        for i, value in enumerate(values):
            T.buffer_store(left, value, [row, vector((v + i) * LANES)])

    def sum_left(self, total: tirx.Buffer, left: tirx.Buffer, row: Any, vectors: int) -> None:
        """Add the first `vectors` vectors of values of a row, as they were rounded, to `total`."""
        for v in range(vectors // 2 if self.dots else vectors):
            x = left[row, vector(v * LANES)]
            ones = splat(T.int32(_ONES))
            added = bf16_dot(total[vector(0)], x, ones) if self.dots else total[vector(0)] + x
            T.buffer_store(total, added, [vector(0)])

    def load_words(self, cache: tirx.Buffer, place: list[Any], word: Any) -> tirx.Expr:
        """Load sixteen words of a row of the cache from `word` on: int32, or fp32 values.

        Staged products get words for `multiply_add`: fp16 is rounded to bf16, to nearest even.
        """
        if self.word_values == 1:
            return cache[tuple([*place, vector(word)])]
        if self.staged:
            halves = [cache[tuple([*place, vector(word * 2 + i * LANES)])] for i in range(2)]
            return round_two_to_bf16(*(widen(half, self.isa) for half in halves))
        return T.reinterpret(
            f"int32x{LANES}", cache[tuple([*place, T.ramp(word * 2, 1, 2 * LANES)])]
        )

    def first_of(self, words: tirx.Expr, count: tirx.Expr) -> tirx.Expr:
        """Clear all but the first `count` values of each word; `count` is at least 1."""
        if self.word_values == 1:
            return words
        return words & splat(T.Select(count == 1, T.int32(0xFFFF), T.int32(-1)))

    def multiply_add(
        self, sums: Accumulators, left: tirx.Buffer, row0: Any, word: Any, words: list[tirx.Expr]
    ) -> None:
        """``sums[r, j] += left[row0 + r, word] . words[j]``; rows of `left` have many words."""
        operands = [self._operands(word) for word in words]
        for step in range(self.word_steps):
            for first, bank in sums.banks:
                with T.unroll(0, sums.bank_rows) as r:
                    factor = left[row0 + first + r, word * self.word_steps + step]
                    x = T.bind(splat(factor))
                    for j, operand in enumerate(operands):
                        total, y = bank[r, j, vector(0)], operand[step][vector(0)]
                        total = bf16_dot(total, x, y) if self.dots else total + x * y
                        T.buffer_store(bank, total, [r, j, vector(0)])

    def _operands(self, words: tirx.Expr) -> list[tirx.Buffer]:
        """The right sides of the steps of sixteen words."""
        if self.word_values == 1:
            return [register(words)]
        pairs = register(words, "int32")
        if self.dots:
            return [pairs]
        low, high = pairs[vector(0)], pairs[vector(0)] >> splat(T.int32(16))
        if self.cache_dtype == "bfloat16":
            bits = (low << splat(T.int32(16)), low & splat(T.int32(-0x10000)))
            return [register(T.reinterpret(f"float32x{LANES}", value)) for value in bits]
        halves = [T.cast(half, f"int16x{LANES}") for half in (low, high)]
        return [
            register(widen(T.reinterpret(f"float16x{LANES}", half), self.isa)) for half in halves
        ]
