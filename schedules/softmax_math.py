"""The exponential of the softmax: of differences to a maximum, in base 2, in few instructions."""

from __future__ import annotations

from tvm import tirx

from schedules.float_bits import ROUNDING_MAGIC
from schedules.registers import LANES

# Minimax in the relative error of 2^r = 1 + r P(r) for |r| <= 1/2: 1e-7 with rounding.
_POLYNOMIAL = (
    1.32647e-3,
    9.67151e-3,
    5.550734e-2,
    2.4022242e-1,
    6.9314698e-1,
    1.0,
)
_MANTISSA_BITS = 23
_LOWEST = -125.0


def exp2(x: tirx.Expr) -> tirx.Expr:
    """``2 ** x`` of float32x16 for ``x <= 0``: relative error below 3e-7, 0 below -125.

    NaN stays NaN. `schedules.vector_math.exp` has no such bounds, and twice the instructions: the
    range of the softmax leaves out large results and subnormal ones.
    """
    float_type, int_type = f"float32x{LANES}", f"int32x{LANES}"

    def number(value: float) -> tirx.Expr:
        return tirx.const(value, float_type)

    shifted, rest = tirx.Var("shifted", float_type), tirx.Var("rest", float_type)
    polynomial = number(_POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        polynomial = polynomial * rest + number(coefficient)
    # The shift leaves the integer's low bits, where the exponent stands: 2^r * 2^n.
    exponent = tirx.reinterpret(int_type, shifted) << tirx.const(_MANTISSA_BITS, int_type)
    power = tirx.reinterpret(float_type, tirx.reinterpret(int_type, polynomial) + exponent)
    power = tirx.Let(rest, x - (shifted - number(ROUNDING_MAGIC)), power)
    power = tirx.Let(shifted, x + number(ROUNDING_MAGIC), power)
    return tirx.Select(x < number(_LOWEST), number(0.0), power)
