"""Casts from and to types of 8 bits and less, whose values travel as a byte each."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_narrow_casts import BYTES

_Bb: TypeAlias = relax.BlockBuilder


class NarrowCast(OnnxOpConverter):
    """What `hold_in_bytes` makes of Cast. Floats are rounded to the nearest, ties to even codes.

    Attributes: `from` (where it is narrow), `to`: ONNX types; `saturate`: what is too large becomes
    the largest value, not an infinity or no number.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x = inputs[0]
        source, target = attr.get("from", 0), attr["to"]
        if _is_float(source):
            values = tensor_dtype_to_np_dtype(source)
            bits = 4 if "4_e" in values.name else 8
            table = np.arange(2**bits, dtype=np.uint8).view(values).astype(np.float32)
            places = bb.emit(relax.op.astype(x, "int32"))
            x = bb.emit(relax.op.take(relax.const(table), places, axis=0, mode="clip"))
        if target not in BYTES:
            return relax.op.astype(x, stock.get_type(target))
        if not _is_float(target):
            return _whole(bb, x, target)
        return _encode(bb, x, target, bool(attr.get("saturate", 1)))


def _is_float(onnx_type: int) -> bool:
    return onnx_type in BYTES and "float" in tensor_dtype_to_np_dtype(onnx_type).name


def _whole(bb: _Bb, x: relax.Expr, target: int) -> relax.Expr:
    """Keep the lowest bits, as casts between integers do."""
    name = tensor_dtype_to_np_dtype(target).name
    size = 2 ** int(name.rpartition("int")[2])
    wide = bb.emit(relax.op.astype(x, "int32"))
    low = bb.emit(relax.op.floor_mod(wide, relax.const(size, "int32")))
    if not name.startswith("uint"):
        is_negative = bb.emit(relax.op.greater_equal(low, relax.const(size // 2, "int32")))
        wrapped = bb.emit(relax.op.subtract(low, relax.const(size, "int32")))
        low = bb.emit(relax.op.where(is_negative, wrapped, low))
    return relax.op.astype(low, stock.get_type(BYTES[target]))


def _encode(bb: _Bb, x: relax.Expr, target: int, saturate: bool) -> relax.Expr:
    """Return codes: how many boundaries between codes lie below the size of `x`, and a sign."""
    dtype = tensor_dtype_to_np_dtype(target)
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

    x = bb.emit(relax.op.astype(x, "float32"))
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
    return relax.op.astype(code, "uint8")
