"""What turns a row of fp32, in registers, into integers with one scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.float_bits import INFINITY_BITS, MAGNITUDE_BITS, NAN_BITS
from schedules.registers import LANES, reduce_lanes, register, splat, vector

INT8_LEVELS = 127
"""Largest magnitude of a code: codes are symmetric."""

SMALLEST = 1e-30
"""Rows whose magnitudes are all smaller count as zeros: their inverse scale would overflow."""

_FLOATS, _INTEGERS, _UNSIGNED = (f"{base}x{LANES}" for base in ("float32", "int32", "uint32"))


def largest_magnitude(values: Iterable[tirx.Expr], *, positive: bool = False) -> tirx.Buffer:
    """Return the largest magnitude of the vectors' lanes, in all lanes; NaN of infinities or NaN.

    As unsigned integers, magnitudes order like the numbers, infinity above them and NaN above all.

    Args:
        values: fp32 vectors.
        positive: whether nothing but a NaN has a sign.
    """

    def magnitude(x: tirx.Expr) -> tirx.Expr:
        bits = T.reinterpret(_UNSIGNED, x)
        return bits if positive else bits & splat(T.uint32(MAGNITUDE_BITS))

    def larger(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
        bits = (T.reinterpret(_UNSIGNED, value) for value in (a, b))
        return T.reinterpret(_FLOATS, T.max(*bits))

    first, *rest = values
    largest = register(T.reinterpret(_FLOATS, magnitude(first)))
    for value in rest:
        T.buffer_store(largest, larger(largest[vector(0)], magnitude(value)), [vector(0)])
    largest = reduce_lanes(largest[vector(0)], larger)
    bits = T.reinterpret(_INTEGERS, largest[vector(0)]) & splat(T.int32(MAGNITUDE_BITS))
    finite = T.Select(bits < splat(T.int32(INFINITY_BITS)), bits, splat(T.int32(NAN_BITS)))
    T.buffer_store(largest, T.reinterpret(_FLOATS, finite), [vector(0)])
    return largest


def inverse_scale(largest: tirx.Buffer, levels: int) -> tirx.Expr:
    """Return ``levels / largest``, 0 where there is nothing to scale or no number."""
    present = largest[vector(0)] >= splat(T.float32(SMALLEST))
    divisor: Any = T.Select(present, largest[vector(0)], splat(T.float32(1)))
    inverse = splat(T.float32(levels)) / divisor
    return T.Select(present, inverse, splat(T.float32(0)))
