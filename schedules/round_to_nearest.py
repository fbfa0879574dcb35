"""Codes and scales of weights by rounding to nearest, for the machine that compiles.

The same bits as `tvm_vacc.quantize.round_to_nearest`, which says what is chosen and why. What
shares a scale is read twice, the second time from a cache, to be divided.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.float_bits import MAGNITUDE_BITS, ROUNDING_MAGIC, ROUNDING_MAGIC_BITS
from schedules.isa import Isa
from schedules.lanes import like, spread
from schedules.parallel import for_lanes
from schedules.registers import LANES, fold_lanes, vector
from schedules.vector_math import widen

SOURCE_DTYPES = ("float32", "float16", "uint16")
"""What weights may be; ``uint16`` are the bits of bf16, which NumPy cannot hand over as such."""

_CODES = {8: (-127, 127), 4: (-8, 7)}
"""Smallest and largest code by bits."""

_SIGN_BIT = 0x80000000

_SMALLEST_8, _SMALLEST_4 = 2.0**-126, 2.0**-24
"""Smallest scales in fp32 and fp16."""


@cache
def round_to_nearest_kernel(dtype: str, bits: int, isa: Isa) -> tirx.PrimFunc:
    """Kernel ``(x [units, length], codes [units, length] int8, scale [units] fp32)``.

    A unit is what shares a scale: an output channel, or a group of its inputs. If it holds an
    infinity or a NaN, or what 4 bits cannot hold, its scale is not finite and its codes mean
    nothing.

    Args:
        dtype: of `x`, one of `SOURCE_DTYPES`.
        bits: 8 or 4.
        isa: of the machine that runs it.

    Raises:
        ValueError: `dtype` is none of them.
    """
    if dtype not in SOURCE_DTYPES:
        raise ValueError(f"weights are one of {', '.join(SOURCE_DTYPES)}, not {dtype}")
    choose = {8: _largest_over_127, 4: _signed_largest_over_8}[bits]
    smallest, largest = _CODES[bits]
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("round_to_nearest")
        T.func_attr({"tirx.noalias": True})
        handles = [T.arg(name, T.handle()) for name in ("x", "codes", "scale")]
        units, length = T.int64(), T.int64()
        # Rows of NumPy's arrays are aligned to nothing but their items.
        x = T.match_buffer(handles[0], (units, length), dtype, align=2)
        codes = T.match_buffer(handles[1], (units, length), "int8", align=1)
        scale = T.match_buffer(handles[2], (units,), "float32", align=4)
        with T.serial(0, units) as unit:
            T.buffer_store(scale, choose(*_extremes(x, unit, length, isa)), [unit])

            def store_code(k: Any, unit: Any = unit) -> None:
                value = _fp32(x[unit, k], isa)
                rounded = value / spread(scale[unit], value) + tirx.const(ROUNDING_MAGIC, value.ty)
                int_type = like(value, "int32")
                code = tirx.reinterpret(int_type, rounded)
                code = code - tirx.const(ROUNDING_MAGIC_BITS, int_type)
                code = T.max(code, tirx.const(smallest, int_type))
                code = T.min(code, tirx.const(largest, int_type))
                T.buffer_store(codes, code.astype(like(value, "int8")), [unit, k])

            for_lanes(length, LANES, store_code)
    return builder.get()


def _fp32(value: Any, isa: Isa) -> tirx.Expr:
    """Return a source value or a vector of them as fp32."""
    if not str(value.ty.dtype).startswith("uint16"):
        return widen(value, isa)
    int_type = like(value, "uint32")
    bits = value.astype(int_type) << tirx.const(16, int_type)
    return tirx.reinterpret(like(value, "float32"), bits)


def _extremes(x: Any, unit: Any, length: Any, isa: Isa) -> tuple[Any, Any]:
    """Emit the search for a unit's extremes; return the bits of both, as uint32.

    As signed integers, the bits of the largest positive number are the largest; as unsigned ones,
    those of the negative number of largest magnitude are. Where there is no number of that sign,
    either finds the one of largest magnitude. Infinities and NaN count as larger than all numbers.
    """
    high, low = (T.alloc_buffer((LANES,), dtype) for dtype in ("int32", "uint32"))
    T.buffer_store(high, T.broadcast(T.int32(-(2**31)), LANES), [vector(0)])
    T.buffer_store(low, T.broadcast(T.uint32(0), LANES), [vector(0)])

    def compare(k: Any) -> None:
        value = _fp32(x[unit, k], isa)
        at = vector(0) if isinstance(k, tirx.Ramp) else 0
        for best in (high, low):
            bits = tirx.reinterpret(like(value, best.dtype), value)
            T.buffer_store(best, T.max(best[at], bits), [at])

    for_lanes(length, LANES, compare)
    largest = tirx.reinterpret("uint32", fold_lanes(high, T.max))
    return T.bind(largest), T.bind(fold_lanes(low, T.max))


def _largest_over_127(high: Any, low: Any) -> Any:
    """Return the scale that puts the largest magnitude at 127."""
    largest = T.max(high & T.uint32(MAGNITUDE_BITS), low & T.uint32(MAGNITUDE_BITS))
    scale = tirx.reinterpret("float32", largest) / T.float32(127)
    # NaN is not smaller, and stays.
    return T.Select(scale < T.float32(_SMALLEST_8), T.float32(_SMALLEST_8), scale)


def _signed_largest_over_8(high: Any, low: Any) -> Any:
    """Return the scale, a value of fp16, that puts the number of largest magnitude at -8."""
    largest, lowest = high & T.uint32(MAGNITUDE_BITS), low & T.uint32(MAGNITUDE_BITS)
    is_positive = tirx.any(largest > lowest, low < T.uint32(_SIGN_BIT))
    bits = T.Select(is_positive, largest | T.uint32(_SIGN_BIT), lowest)
    eighth = tirx.reinterpret("float32", bits) / T.float32(8)
    scale = eighth.astype("float16").astype("float32")
    return T.Select(scale == T.float32(0), T.float32(_SMALLEST_4), scale)
