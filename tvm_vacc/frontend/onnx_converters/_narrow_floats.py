"""Floats of 8 and 4 bits from and to the codes they are stored by."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from tvm import relax

_Bb: TypeAlias = relax.BlockBuilder


def decode(bb: _Bb, codes: relax.Expr, onnx_type: int) -> relax.Expr:
    """Return uint8 `codes` of `onnx_type` as the fp32 numbers that they stand for."""
    values = tensor_dtype_to_np_dtype(onnx_type)
    bits = 4 if "4_e" in values.name else 8
    table = np.arange(2**bits, dtype=np.uint8).view(values).astype(np.float32)
    places = bb.emit(relax.op.astype(codes, "int32"))
    return bb.emit(relax.op.take(relax.const(table), places, axis=0, mode="clip"))


def encode(bb: _Bb, x: relax.Expr, onnx_type: int, *, saturate: bool) -> relax.Expr:
    """Return uint8 codes of fp32 `x`: the nearest number's, of two equally near the even one.

    Args:
        bb: takes the bindings.
        x: numbers.
        onnx_type: a type with a sign.
        saturate: what is too large becomes the largest number, not an infinity or no number.
    """
    dtype = tensor_dtype_to_np_dtype(onnx_type)
    sign_bit = 8 if "4_e" in dtype.name else 128
    table = np.arange(sign_bit, dtype=np.uint8).view(dtype).astype(np.float64)
    finite = table[np.isfinite(table)]
    largest = len(finite) - 1
    steps = np.append(finite, 2 * finite[-1] - finite[-2])
    bounds = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    odd = np.arange(len(bounds)) % 2 == 1  # a tie above an odd code goes up, to the even one
    bounds[odd] = np.nextafter(bounds[odd], np.float32(0))
    has_infinity = dtype.name == "float8_e5m2"
    unsigned_zero = dtype.name.endswith("fnuz")
    not_a_number = 8 if sign_bit == 8 else 128 if unsigned_zero else 127 - has_infinity
    beyond = largest if saturate or sign_bit == 8 else (124 if has_infinity else not_a_number)
    codes = np.append(np.arange(largest + 1), beyond).astype(np.int32)

    # How many boundaries between codes lie below the size of x, and a sign.
    place = bb.emit(relax.op.bucketize(bb.emit(relax.op.abs(x)), relax.const(bounds)))
    code = bb.emit(relax.op.take(relax.const(codes), place, axis=0, mode="clip"))
    zero = relax.const(0.0, "float32")
    is_negative = bb.emit(relax.op.less(x, zero))
    if unsigned_zero:
        is_sized = bb.emit(relax.op.greater(code, relax.const(0, "int32")))
        is_negative = bb.emit(relax.op.logical_and(is_negative, is_sized))
    else:  # the inverse of -0 is negative, though -0 is not below 0
        inverse = bb.emit(relax.op.divide(relax.const(1.0, "float32"), x))
        is_minus = bb.emit(relax.op.less(inverse, zero))
        is_negative = bb.emit(relax.op.logical_or(is_negative, is_minus))
    signed = bb.emit(relax.op.bitwise_or(code, relax.const(sign_bit, "int32")))
    code = bb.emit(relax.op.where(is_negative, signed, code))
    none = relax.const(not_a_number, "int32")
    code = bb.emit(relax.op.where(bb.emit(relax.op.isnan(x)), none, code))
    return bb.emit(relax.op.astype(code, "uint8"))


def encode_power(bb: _Bb, x: relax.Expr, mode: str) -> relax.Expr:
    """Return the uint8 codes of FLOAT8E8M0, the exponent of a power of two, of fp32 `x`.

    Args:
        bb: takes the bindings.
        x: positive numbers.
        mode: ``up``, ``down`` or ``nearest``, as ONNX's Cast has `round_mode`.
    """
    powers = np.arange(255, dtype=np.uint8).view(_POWERS).astype(np.float64)
    bounds = {
        "up": powers[:-1],
        # The largest number below each power, since what equals a boundary lies below it.
        "down": np.nextafter(powers[1:].astype(np.float32), np.float32(0)),
        "nearest": np.nextafter((1.5 * powers[:-1]).astype(np.float32), np.float32(0)),
    }[mode].astype(np.float32)
    code = bb.emit(relax.op.bucketize(x, relax.const(bounds)))
    none = relax.const(255, "int32")
    is_number = bb.emit(relax.op.greater_equal(x, relax.const(0.0, "float32")))
    code = bb.emit(relax.op.where(is_number, bb.emit(relax.op.astype(code, "int32")), none))
    return bb.emit(relax.op.astype(code, "uint8"))


_POWERS = tensor_dtype_to_np_dtype(TensorProto.FLOAT8E8M0)
