"""fp32 functions as TIR expressions that stay vector code: no call to libm.

TVM lowers ``T.exp`` of a vector to one libm call a lane; a polynomial is about 15 times as fast.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from schedules.float_bits import ROUNDING_MAGIC, ROUNDING_MAGIC_BITS
from schedules.isa import Isa

# Cephes expf (Stephen Moshier): exp(r) = 1 + r + r^2 P(r) for |r| <= ln(2) / 2.
_EXP_POLYNOMIAL = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Beyond these, exp is 0 or infinity in fp32 whatever the rounding (subnormals included).
_EXP_LOWEST, _EXP_HIGHEST = -104.0, 89.0


def exp(x: Any) -> tirx.Expr:
    """``e ** x`` of an fp32 expression of any number of lanes.

    Relative error below 2e-7; exact limits: 0 for -inf and below -104, +inf for large values;
    NaN stays NaN. Subnormal results have the absolute error of their last bit.
    """
    float_type, int_type = _types(x)

    def number(value: float) -> tirx.Expr:
        return tirx.const(value, float_type)

    def integer(value: int) -> tirx.Expr:
        return tirx.const(value, int_type)

    clamped = tirx.Var("clamped", float_type)
    shifted = tirx.Var("shifted", float_type)
    rest = tirx.Var("rest", float_type)
    exponent = tirx.Var("exponent", int_type)

    polynomial = number(_EXP_POLYNOMIAL[0])
    for coefficient in _EXP_POLYNOMIAL[1:]:
        polynomial = polynomial * rest + number(coefficient)
    mantissa = polynomial * (rest * rest) + (rest + number(1.0))

    def power_of_two(n: tirx.Expr) -> tirx.Expr:
        return tirx.reinterpret(float_type, (n + integer(127)) << integer(23))

    # Two factors: 2^exponent alone overflows at 128 and has no normal form below -126.
    half = exponent >> integer(1)
    result = mantissa * power_of_two(half) * power_of_two(exponent - half)

    # The order of operands lets NaN through: a comparison with it is false.
    bounded = tirx.Select(x < number(_EXP_LOWEST), number(_EXP_LOWEST), x)
    bounded = tirx.Select(bounded > number(_EXP_HIGHEST), number(_EXP_HIGHEST), bounded)
    whole = shifted - number(ROUNDING_MAGIC)
    bindings = [
        (clamped, bounded),
        (shifted, clamped * number(_LOG2_E) + number(ROUNDING_MAGIC)),
        (rest, clamped - whole * number(_LN2_HIGH) - whole * number(_LN2_LOW)),
        (exponent, tirx.reinterpret(int_type, shifted) - integer(ROUNDING_MAGIC_BITS)),
    ]
    for var, value in reversed(bindings):
        result = tirx.Let(var, value, result)
    return result


def sigmoid(x: Any) -> tirx.Expr:
    """``1 / (1 + e ** -x)`` of an fp32 expression; 0 and 1 at the ends, NaN stays NaN."""
    one = tirx.const(1.0, _types(x)[0])
    return one / (one + exp(-x))


def widen(x: Any, isa: Isa) -> tirx.Expr:
    """Convert an fp32, fp16 or bf16 expression to fp32, exactly, in vector code.

    Store the result in a buffer rather than binding it to a variable: TVM 0.27 gives a bound
    vector of widened bf16 wrong values.
    """
    base, lanes = _base_and_lanes(x)
    float_type = "float32" + lanes
    if base != "float16" or isa.converts_half:
        return x.astype(float_type)
    int_type = "uint32" + lanes

    def integer(value: int) -> tirx.Expr:
        return tirx.const(value, int_type)

    bits = tirx.reinterpret("uint16" + lanes, x).astype(int_type)
    magnitude = (bits & integer(0x7FFF)) << integer(13)
    # The exponent's bias differs by 112; multiplying makes normal numbers of subnormal ones too.
    finite = tirx.reinterpret(float_type, magnitude) * tirx.const(2.0**112, float_type)
    special = tirx.reinterpret(float_type, magnitude | integer(0x7F800000))
    value = tirx.Select(magnitude < integer(0x7C00 << 13), finite, special)
    sign = (bits & integer(0x8000)) << integer(16)
    return tirx.reinterpret(float_type, tirx.reinterpret(int_type, value) | sign)


def _types(x: tirx.Expr) -> tuple[str, str]:
    """Return the fp32 and int32 types with as many lanes as `x`."""
    base, lanes = _base_and_lanes(x)
    if base != "float32":
        raise TypeError(f"expected an fp32 expression, got {x.ty}")
    return "float32" + lanes, "int32" + lanes


def _base_and_lanes(x: tirx.Expr) -> tuple[str, str]:
    """Split the type of `x`: ``float16x8`` is ``("float16", "x8")``, ``float16`` has no lanes."""
    base, times, lanes = str(x.ty.dtype).partition("x")
    return base, times + lanes
