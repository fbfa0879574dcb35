"""The inner products of attention: rows of fp32 against words of the KV cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.kv_cache import LINE_BYTES, WORD_VALUES
from schedules.registers import LANES, Accumulators, splat, vector, zeros
from tvm_vacc.limits import PAGE_SIZE


@dataclass(frozen=True)
class LeftRows:
    """Rows made ready to be multiplied.

    Attributes:
        buffer: ``[rows, words]``, as the product wants them.
        keys: whether they meet keys, or else values.
        factor: ``[rows, 16]`` fp32: what an integer of a row stands for; None for floats.
        correction: ``[rows]`` int32: what is added to the sums of a row; None for none.
    """

    buffer: tirx.Buffer
    keys: bool
    factor: tirx.Buffer | None = None
    correction: tirx.Buffer | None = None


@dataclass(frozen=True)
class Product(ABC):
    """How words of a cache of `cache_dtype` are multiplied on `isa`."""

    cache_dtype: str
    isa: Isa

    @property
    def word_values(self) -> int:
        """Values of the cache in one word."""
        return WORD_VALUES[self.cache_dtype]

    @property
    def page_words(self) -> int:
        """Words that the positions of a page take, in each dimension."""
        return PAGE_SIZE // self.word_values

    @property
    def scaled(self) -> bool:
        """Whether what is stored are codes, with a scale a position."""
        return self.cache_dtype == "int8"

    @property
    @abstractmethod
    def unit(self) -> str:
        """What the machine multiplies: ``fp32``, ``bf16`` or ``int8``."""

    @property
    def multiplications(self) -> int:
        """How often a value of the cache is multiplied with one of a row."""
        return 1

    @property
    def accumulators(self) -> int:
        """Accumulators a sum; where they are several, they are of one block's own scale."""
        return 1

    @property
    def staged(self) -> bool:
        """Whether words must be converted before they are multiplied.

        Then it pays to do so once for all rows of a tile; widening is done in the registers.
        """
        return False

    def instructions(self) -> AbstractContextManager[Any]:
        """Return the context that a kernel's body needs."""
        return nullcontext()

    @abstractmethod
    def left_rows(self, rows: int, values: int, *, keys: bool) -> LeftRows:
        """Allocate rows of `values` values that meet `keys`, or values; see `store_left`."""

    @abstractmethod
    def store_left(
        self, left: LeftRows, row: Any, values: Sequence[tirx.Buffer], factor: float = 1.0
    ) -> None:
        """Store the vectors of a row, times `factor`."""

    def add_weights(
        self, total: tirx.Buffer, weights: Sequence[tirx.Buffer], left: LeftRows, row: Any
    ) -> None:
        """Add the `weights` of a row to `total`, as `left` has them."""
        for weight in weights:
            T.buffer_store(total, total[vector(0)] + weight[vector(0)], [vector(0)])

    def sums(self, rows: int, vectors: int) -> Accumulators:
        """Allocate accumulators."""
        return Accumulators(rows, vectors)

    def clear(self, sums: Accumulators, left: LeftRows, row0: Any) -> None:
        """Make `sums` those over no word, of the rows of `left` from `row0` on."""
        for _, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for j in range(int(bank.shape[1])):
                    T.buffer_store(bank, zeros(), [r, j, vector(0)])

    @abstractmethod
    def multiply_add(
        self,
        sums: Accumulators,
        left: LeftRows,
        row0: Any,
        word: Any,
        words: Sequence[tirx.Expr],
    ) -> None:
        """``sums[r, j] += left[row0 + r, word] . words[j]``."""

    def result(self, bank: tirx.Buffer, r: Any, j: int, left: LeftRows, row: Any) -> tirx.Expr:
        """Return the `j`-th sum of row `r` of a bank, which is `row` of `left`, in fp32."""
        return bank[r, j, vector(0)]

    def load_words(self, cache: tirx.Buffer, place: list[Any], word: Any) -> tirx.Expr:
        """Load sixteen words of a row of the cache from `word` on: int32, or fp32 values."""
        if self.word_values == 1:
            return cache[tuple([*place, vector(word)])]
        values = T.ramp(word * self.word_values, 1, self.word_values * LANES)
        return T.reinterpret(f"int32x{LANES}", cache[tuple([*place, values])])

    def load_scales(self, cache: tirx.Buffer, place: list[Any]) -> tirx.Expr:
        """Load the scales of the sixteen positions of a page of codes."""
        line = int(cache.shape[-2]) - 1
        scales = cache[tuple([*place, line, T.ramp(0, 1, LINE_BYTES)])]
        return T.reinterpret(f"float32x{LANES}", scales)

    def first_of(self, words: tirx.Expr, count: tirx.Expr) -> tirx.Expr:
        """Clear all but the first `count` values of words of one or two; `count` is at least 1."""
        if self.word_values == 1:
            return words
        return words & splat(T.Select(count == 1, T.int32(0xFFFF), T.int32(-1)))
