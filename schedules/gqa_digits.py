"""Products of attention in bytes: int8 codes of the cache as they are, rows as two bytes a value.

A row becomes integers with one factor, ``256 * high + low``, which loses next to nothing: an error
of 2**-16 of the row's largest value. Both digits meet the codes in dot products of four bytes, and
their sums in int32 are exact: as many instructions as products of bf16 take, no conversion of the
cache, and half the bytes read. Each digit has an accumulator of its own, so that words are loaded
once for both.

The instruction multiplies unsigned bytes with signed ones. Queries have signed digits, so codes of
keys are raised by 128 on the way and the sums corrected; weights of the softmax are positive and
have unsigned digits, so codes of values are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_PACKED = 4
"""Vectors of integers that two vectors of digits hold."""

_QUARTERS = [4 * (word % 4) + word // 4 for word in range(LANES)]
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
    def multiplications(self) -> int:
        """See `Product`: one a digit."""
        return _DIGITS

    @property
    def accumulators(self) -> int:
        """See `Product`: one a digit, the high one first."""
        return _DIGITS

    def left_rows(self, rows: int, values: int, *, keys: bool) -> LeftRows:
        """See `Product`: the words of the high digits, then those of the low ones."""
        words = -(-values // (_PACKED * LANES)) * LANES
        return LeftRows(
            T.alloc_buffer((rows, _DIGITS * words), "int32"),
            keys,
            T.alloc_buffer((rows, LANES), "float32"),
            T.alloc_buffer((rows,), "int32") if keys else None,
        )

    def store_left(
        self, left: LeftRows, row: Any, values: Sequence[tirx.Buffer], factor: float = 1.0
    ) -> None:
        """See `Product`; values that meet values are not negative."""
        assert left.factor is not None
        largest = largest_magnitude((v[vector(0)] for v in values), positive=not left.keys)
        levels = SIGNED_LEVELS if left.keys else UNSIGNED_LEVELS
        inverse = register(inverse_scale(largest, levels))
        of_integers = largest[vector(0)] * splat(T.float32(factor / levels))
        T.buffer_store(left.factor, of_integers, [row, vector(0)])
        integers = [to_integer(value[vector(0)] * inverse[vector(0)]) for value in values]
        store_digits(left, row, integers)
        if left.correction is not None:
            total = register(integers[0][vector(0)], "int32")
            for number in integers[1:]:
                T.buffer_store(total, total[vector(0)] + number[vector(0)], [vector(0)])
            T.buffer_store(left.correction, _sum_of_lanes(total) * -_RAISED_BY, [row])

    def sums(self, rows: int, vectors: int) -> Accumulators:
        """See `Product`."""
        return Accumulators(rows, vectors * _DIGITS, "int32")

    def clear(self, sums: Accumulators, left: LeftRows, row0: Any) -> None:
        """See `Product`; low digits start at the row's correction."""
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                start = T.int32(0)
                if left.correction is not None:
                    start = T.bind(left.correction[row0 + first + r])
                for j in range(int(bank.shape[1])):
                    is_low = j % _DIGITS
                    T.buffer_store(bank, splat(start if is_low else T.int32(0)), [r, j, vector(0)])

    def multiply_add(
        self,
        sums: Accumulators,
        left: LeftRows,
        row0: Any,
        word: Any,
        words: Sequence[tirx.Expr],
    ) -> None:
        """See `Product`."""
        codes = [register(four, "int32") for four in words]
        if left.keys:
            for held in codes:
                T.buffer_store(held, held[vector(0)] ^ splat(T.int32(_SIGN_BITS)), [vector(0)])
        low_words = int(left.buffer.shape[1]) // _DIGITS
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for digit in range(_DIGITS):
                    digits = splat(left.buffer[row0 + first + r, digit * low_words + word])
                    for j, held in enumerate(codes):
                        place = [r, j * _DIGITS + digit, vector(0)]
                        unsigned, signed = (
                            (held[vector(0)], digits) if left.keys else (digits, held[vector(0)])
                        )
                        T.buffer_store(bank, _dot(bank[tuple(place)], unsigned, signed), place)

    def result(self, bank: tirx.Buffer, r: Any, j: int, left: LeftRows, row: Any) -> tirx.Expr:
        """See `Product`."""
        assert left.factor is not None
        high, low = (bank[r, j * _DIGITS + digit, vector(0)] for digit in range(_DIGITS))
        total = (high << splat(T.int32(8))) + low
        return T.cast(total, _FLOATS) * left.factor[row, vector(0)]


def to_integer(value: tirx.Expr) -> tirx.Buffer:
    """Round fp32 lanes to integers, half to even."""
    rounded = value + splat(T.float32(ROUNDING_MAGIC))
    number = T.reinterpret(_INTEGERS, rounded) - splat(T.int32(ROUNDING_MAGIC_BITS))
    return register(number, "int32")


def store_digits(left: LeftRows, row: Any, integers: Sequence[tirx.Buffer]) -> None:
    """Store the digits of a row's first integers: words of the high ones, then of the low ones."""
    words = int(left.buffer.shape[1]) // _DIGITS
    for first in range(0, len(integers), _PACKED):
        four = [v[vector(0)] for v in integers[first : first + _PACKED]]
        four += [splat(T.int32(0))] * (_PACKED - len(four))
        for digit, packed in enumerate(_digits_of(four, signed=left.keys)):
            place = vector(digit * words + first // _PACKED * LANES)
            T.buffer_store(left.buffer, packed, [row, place])


def _digits_of(four: Sequence[tirx.Expr], *, signed: bool) -> tuple[tirx.Expr, tirx.Expr]:
    """Return high and low digits of four vectors of integers, in words of four neighbours.

    Packing of vectors works in each quarter of them: what comes out is words by quarter, then by
    vector, and a shuffle puts them in the order of the vectors.
    """
    name = "packssdw" if signed else "packusdw"
    low_bytes = splat(T.int32(0x00FF00FF))
    pairs = [register(_pack(name, "int16", *four[i : i + 2]), "int32") for i in (0, 2)]
    low = [pair[vector(0)] & low_bytes for pair in pairs]
    if signed:  # low digits of 128 and more count as negative
        carried = [_as_pairs(pair[vector(0)], "int16") + _pairs(128, "int16") for pair in pairs]
        high = [T.reinterpret(_INTEGERS, pair >> _pairs(8, "int16")) for pair in carried]
    else:
        high = [(pair[vector(0)] >> splat(T.int32(8))) & low_bytes for pair in pairs]
    bytes_of = (
        (_pack("packsswb" if signed else "packuswb", "int8", *high)),
        (_pack("packuswb", "int8", *low)),
    )
    high_digits, low_digits = (tirx.Shuffle([words], _QUARTERS) for words in bytes_of)
    return high_digits, low_digits


def _pack(name: str, base: str, first: tirx.Expr, second: tirx.Expr) -> tirx.Expr:
    """Halve the width of two vectors' numbers; all vectors are words of int32 to TVM."""
    narrow = {"int16": 2, "int8": 4}[base]
    wide = {"int16": "int32", "int8": "int16"}[base]
    operands = [T.reinterpret(f"{wide}x{LANES * narrow // 2}", words) for words in (first, second)]
    packed = T.call_llvm_pure_intrin(
        f"{base}x{LANES * narrow}", f"llvm.x86.avx512.{name}.512", *operands
    )
    return T.reinterpret(_INTEGERS, packed)


def _as_pairs(words: tirx.Expr, base: str) -> tirx.Expr:
    return T.reinterpret(f"{base}x{2 * LANES}", words)


def _pairs(value: int, base: str) -> tirx.Expr:
    return T.broadcast(tirx.const(value, base), 2 * LANES)


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
