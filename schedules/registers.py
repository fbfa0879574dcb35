"""Vectors of 16 fp32 lanes and the registers that hold them, for kernels built by the IRBuilder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.scratch import scratch

LANES = 16
"""Lanes of a vector: one AVX-512 register; LLVM splits it on narrower machines."""

BANK_REGISTERS = 15
"""Registers in one buffer, at most: TVM puts 1024 bytes and more on the heap."""


def vector(start: Any) -> tirx.Expr:
    """Sixteen consecutive indices."""
    return T.ramp(start, 1, LANES)


def splat(value: Any) -> tirx.Expr:
    """A scalar in all sixteen lanes."""
    return T.broadcast(value, LANES)


def zeros() -> tirx.Expr:
    """Sixteen fp32 zeros."""
    return splat(T.float32(0))


def register(value: tirx.Expr, dtype: str = "float32") -> tirx.Buffer:
    """One vector register holding `value` of type `dtype`; read and written at ``[vector(0)]``.

    A buffer of the default scope: "local" ones of 16-lane accesses are heap workspace in TVM 0.27.
    And no `T.bind`, which gives wrong values to vectors of widened bf16.
    """
    buffer = scratch((LANES,), dtype)
    T.buffer_store(buffer, value, [vector(0)])
    return buffer


class Accumulators:
    """Vector registers ``[rows, vectors]`` in banks, buffers small enough to become registers.

    Attributes:
        bank_rows: rows of every bank.
        banks: first row and buffer ``[bank_rows, vectors, LANES]`` of each, of type `dtype`.
    """

    def __init__(self, rows: int, vectors: int, dtype: str = "float32") -> None:
        self.bank_rows = largest_divisor(rows, BANK_REGISTERS // vectors)
        self.banks = [
            (first, scratch((self.bank_rows, vectors, LANES), dtype))
            for first in range(0, rows, self.bank_rows)
        ]


def reduce_lanes(value: tirx.Expr, combine: Callable[[Any, Any], Any]) -> tirx.Buffer:
    """Fold the sixteen lanes of fp32 `value` by halves; all lanes of the result are the fold."""
    buffer = register(value)
    width = LANES // 2
    while width:
        other = tirx.Shuffle([buffer[vector(0)]], [lane ^ width for lane in range(LANES)])
        T.buffer_store(buffer, combine(buffer[vector(0)], other), [vector(0)])
        width //= 2
    return buffer


def reduce_registers(
    registers: Sequence[tirx.Buffer], combine: Callable[[Any, Any], Any]
) -> tirx.Buffer:
    """Fold all lanes of some fp32 registers; all lanes of the result are the fold."""
    folded = register(registers[0][vector(0)])
    for other in registers[1:]:
        T.buffer_store(folded, combine(folded[vector(0)], other[vector(0)]), [vector(0)])
    return reduce_lanes(folded[vector(0)], combine)


def fold_lanes(buffer: tirx.Buffer, combine: Callable[[Any, Any], Any]) -> tirx.Expr:
    """Fold the lanes of a register of any type into one number, by halves; destroys them."""
    width = LANES // 2
    while width > 1:
        low, high = T.ramp(0, 1, width), T.ramp(width, 1, width)
        T.buffer_store(buffer, combine(buffer[low], buffer[high]), [low])
        width //= 2
    return combine(buffer[0], buffer[1])


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` up to `most`."""
    return max(n for n in range(1, most + 1) if number % n == 0)
