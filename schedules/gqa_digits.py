"""Products of attention in bytes: int8 codes of the cache as they are, rows as two bytes a value.

A row becomes integers with one factor, ``256 * high + low``, which loses next to nothing: an error
of 2**-16 of the row's largest value. Both digits meet the codes in dot products of four bytes, and
their sums in int32 are exact: as many instructions as products of bf16 take, no conversion of the
cache, and half the bytes read.

The instruction multiplies unsigned bytes with signed ones. Queries have signed digits, so codes of
keys are raised by 128 on the way and the sums corrected; weights of the softmax are positive and
have unsigned digits, so codes of values are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.float_bits import ROUNDING_MAGIC, ROUNDING_MAGIC_BITS
from schedules.gqa_product import LeftRows, Product
from schedules.int8_rows import inverse_scale, largest_magnitude
from schedules.isa import Isa
from schedules.registers import LANES, Accumulators, reduce_lanes, register, splat, vector

SIGNED_LEVELS = 32639
"""Largest magnitude of two signed digits: 127 * 256 + 127."""

UNSIGNED_LEVELS = 65535
"""Largest number of two unsigned digits."""

MAX_HEAD_DIM = 256
"""So many products of 255 and 127, times 256, are an int32."""

_DIGITS = 2
_WORD_BYTES = 4
_WORDS_A_VECTOR = LANES // _WORD_BYTES
_RAISED_BY = 128
_SIGN_BITS = -0x7F7F7F80
"""The highest bit of each byte: flipped, signed bytes become unsigned ones 128 larger."""

_FLOATS, _INTEGERS = f"float32x{LANES}", f"int32x{LANES}"

_DOT = "llvm.x86.avx512.vpdpbusd.512"


@dataclass(frozen=True)
class DigitProduct(Product):
    """Products of int8 codes and two digits; see the module."""

    @staticmethod
    def suits(cache_dtype: str, head_dim: int, isa: Isa) -> bool:
        """Tell whether the cache has codes and `isa` the instruction, 16 lanes wide."""
        wide = isa.dots_bytes and isa.lanes == LANES
        return cache_dtype == "int8" and wide and head_dim <= MAX_HEAD_DIM

    @property
    def unit(self) -> str:
        """See `Product`."""
        return "int8"

    @property
    def integers(self) -> bool:
        """See `Product`."""
        return True

    @property
    def multiplications(self) -> int:
        """See `Product`: one a digit."""
        return _DIGITS

    def left_rows(self, rows: int, values: int, *, keys: bool) -> LeftRows:
        """See `Product`: the words of the high digits, then those of the low ones."""
        return LeftRows(
            T.alloc_buffer((rows, _DIGITS * values // _WORD_BYTES), "int32"),
            keys,
            T.alloc_buffer((rows, LANES), "float32"),
            T.alloc_buffer((rows,), "int32") if keys else None,
        )

    def store_left(self, left: LeftRows, row: Any, values: Sequence[tirx.Buffer]) -> None:
        """See `Product`; values that meet values are not negative."""
        words = int(left.buffer.shape[1]) // _DIGITS
        assert left.factor is not None
        largest = largest_magnitude(value[vector(0)] for value in values)
        levels = SIGNED_LEVELS if left.keys else UNSIGNED_LEVELS
        inverse = register(inverse_scale(largest, levels))
        factor = largest[vector(0)] * splat(T.float32(1 / levels))
        T.buffer_store(left.factor, factor, [row, vector(0)])
        total = register(splat(T.int32(0)), "int32")
        for v, value in enumerate(values):
            rounded = value[vector(0)] * inverse[vector(0)] + splat(T.float32(ROUNDING_MAGIC))
            number = register(T.reinterpret(_INTEGERS, rounded), "int32")
            high, low = number[vector(0)], number[vector(0)]
            if left.keys:  # low digits of 128 and more count as negative
                high = high + splat(T.int32(128))
                integer = low - splat(T.int32(ROUNDING_MAGIC_BITS))
                T.buffer_store(total, total[vector(0)] + integer, [vector(0)])
            for digit, part in enumerate((high >> splat(T.int32(8)), low)):
                place = T.ramp(digit * words + v * _WORDS_A_VECTOR, 1, _WORDS_A_VECTOR)
                four = T.reinterpret(f"int32x{_WORDS_A_VECTOR}", T.cast(part, f"int8x{LANES}"))
                T.buffer_store(left.buffer, four, [row, place])
        if left.correction is not None:
            T.buffer_store(left.correction, _sum_of_lanes(total) * -_RAISED_BY, [row])

    def sums(self, rows: int, vectors: int) -> Accumulators:
        """See `Product`."""
        return Accumulators(rows, vectors, "int32")

    @contextmanager
    def passes(self, sums: Accumulators) -> Iterator[Any]:
        """See `Product`: over the high digits, then over the low ones."""
        with T.serial(0, _DIGITS) as digit:
            for _, bank in sums.banks:
                with T.unroll(0, sums.bank_rows) as r:
                    for j in range(int(bank.shape[1])):
                        shifted = bank[r, j, vector(0)] << splat(T.int32(8))
                        T.buffer_store(bank, shifted, [r, j, vector(0)])
            yield digit

    def multiply_add(
        self,
        sums: Accumulators,
        left: LeftRows,
        row0: Any,
        turn: Any,
        word: Any,
        words: Sequence[tirx.Expr],
    ) -> None:
        """See `Product`."""
        codes = [register(four, "int32") for four in words]
        if left.keys:
            for held in codes:
                T.buffer_store(held, held[vector(0)] ^ splat(T.int32(_SIGN_BITS)), [vector(0)])
        column = turn * (int(left.buffer.shape[1]) // _DIGITS) + word
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                digits = splat(left.buffer[row0 + first + r, column])
                for j, held in enumerate(codes):
                    unsigned, signed = (
                        (held[vector(0)], digits) if left.keys else (digits, held[vector(0)])
                    )
                    total = _dot(bank[r, j, vector(0)], unsigned, signed)
                    T.buffer_store(bank, total, [r, j, vector(0)])

    def result(self, total: tirx.Expr, left: LeftRows, row: Any) -> tirx.Expr:
        """See `Product`."""
        assert left.factor is not None
        if left.correction is not None:
            total = total + splat(left.correction[row])
        return T.cast(total, _FLOATS) * left.factor[row, vector(0)]


def _dot(total: tirx.Expr, unsigned: tirx.Expr, signed: tirx.Expr) -> tirx.Expr:
    """``total`` plus the products of the four bytes of each lane: ``vpdpbusd``."""
    operands = (T.reinterpret(f"int8x{4 * LANES}", words) for words in (unsigned, signed))
    return T.call_llvm_pure_intrin(_INTEGERS, _DOT, total, *operands)


def _sum_of_lanes(value: tirx.Buffer) -> tirx.Expr:
    """Fold int32 lanes in registers, which `reduce_lanes` takes for floats."""

    def add(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        return T.reinterpret(_FLOATS, T.reinterpret(_INTEGERS, a) + T.reinterpret(_INTEGERS, b))

    total = reduce_lanes(T.reinterpret(_FLOATS, value[vector(0)]), add)
    return T.reinterpret("int32", total[0])
