"""What turns a row of fp32, in registers, into integers with one scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.registers import LANES, reduce_lanes, register, splat, vector

INT8_LEVELS = 127
"""Largest magnitude of a code: codes are symmetric."""

SMALLEST = 1e-30
"""Rows whose magnitudes are all smaller count as zeros: their inverse scale would overflow."""

ROUNDING_MAGIC = 12582912.0
"""1.5 * 2**23: adding it rounds half to even and leaves the integer in the low bits."""

ROUNDING_MAGIC_BITS = 0x4B400000
"""The bits of that number: the bits of the sum less these are the integer."""

_FLOATS, _INTEGERS = f"float32x{LANES}", f"int32x{LANES}"
_MAGNITUDE_BITS, _INFINITY_BITS, _NAN_BITS = 0x7FFFFFFF, 0x7F800000, 0x7FC00000


def largest_magnitude(values: Iterable[tirx.Expr]) -> tirx.Buffer:
    """Return the largest magnitude of the vectors' lanes, in all lanes; NaN of infinities or NaN.

    As integers, magnitudes order like the numbers, infinity above them and NaN above all.
    """

    def magnitude(x: tirx.Expr) -> tirx.Expr:
        return T.reinterpret(_INTEGERS, x) & splat(T.int32(_MAGNITUDE_BITS))

    def larger(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        return T.reinterpret(_FLOATS, T.max(magnitude(a), magnitude(b)))

    first, *rest = values
    largest = register(first)
    for value in rest:
        T.buffer_store(largest, larger(largest[vector(0)], value), [vector(0)])
    largest = reduce_lanes(largest[vector(0)], larger)
    bits = T.reinterpret(_INTEGERS, largest[vector(0)])
    finite = T.Select(bits < splat(T.int32(_INFINITY_BITS)), bits, splat(T.int32(_NAN_BITS)))
    T.buffer_store(largest, T.reinterpret(_FLOATS, finite), [vector(0)])
    return largest


def inverse_scale(largest: tirx.Buffer, levels: int) -> tirx.Expr:
    """Return ``levels / largest``, 0 where there is nothing to scale or no number."""
    present = largest[vector(0)] >= splat(T.float32(SMALLEST))
    divisor: Any = T.Select(present, largest[vector(0)], splat(T.float32(1)))
    inverse = splat(T.float32(levels)) / divisor
    return T.Select(present, inverse, splat(T.float32(0)))
