"""The exponential of the softmax: of differences to a maximum, in base 2, in few instructions."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.float_bits import ROUNDING_MAGIC
from schedules.registers import LANES, register, vector

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


_UP_TO_13_BITS = (7.7067051e-2, 2.2764498e-1, 6.9511679e-1)
_UP_TO_18_BITS = (1.3426686e-2, 5.2242472e-2, 2.4128021e-1, 6.9304484e-1)
"""Minimax in the relative error of 2^f = 1 + f P(f) for 0 <= f < 1: 8.6e-5 and 2.9e-6."""

_SMALLEST_EXPONENT = -126.0
_ROUND_DOWN = 9
_AS_EVER = 4
"""Operands of the instructions: round down and tell nobody; the rounding mode as it is."""


def exp2_of_bits(x: tirx.Expr, bits: int) -> tirx.Expr:
    """``2 ** x`` of float32x16 for AVX-512, to 13 or 18 bits: half the instructions of `exp2`.

    Exact at 0. Below -126 it stays at 2^-126: no result is subnormal, and none is zero. NaN stays
    NaN. The instructions are ``vreduceps`` and ``vscalefps`` (Intel 64 and IA-32 Architectures
    Software Developer's Manual).
    """
    all_lanes, any_vector = T.int16(-1), T.broadcast(T.float32(0), LANES)

    def number(value: float) -> tirx.Expr:
        return tirx.const(value, f"float32x{LANES}")

    # This order of operands lets NaN through.
    bounded = register(T.max(number(_SMALLEST_EXPONENT), x))[vector(0)]
    mask = (any_vector, all_lanes, T.int32(_AS_EVER))
    rest = T.call_llvm_pure_intrin(
        f"float32x{LANES}",
        "llvm.x86.avx512.mask.reduce.ps.512",
        bounded,
        T.int32(_ROUND_DOWN),
        *mask,
    )
    rest = register(rest)[vector(0)]
    first, *others = {13: _UP_TO_13_BITS, 18: _UP_TO_18_BITS}[bits]
    polynomial = number(first)
    for coefficient in (*others, 1.0):
        polynomial = polynomial * rest + number(coefficient)
    return T.call_llvm_pure_intrin(
        f"float32x{LANES}", "llvm.x86.avx512.mask.scalef.ps.512", polynomial, bounded, *mask
    )
