"""Casts from and to types of 8 bits and less, whose values travel as a byte each."""

from __future__ import annotations

from typing import Any, TypeAlias

from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._narrow_floats import decode, encode, encode_power
from tvm_vacc.frontend.onnx_narrow_types import BYTES, NARROW, NARROW_FLOATS

_Bb: TypeAlias = relax.BlockBuilder


class NarrowCast(OnnxOpConverter):
    """What `hold_in_bytes` makes of Cast. Floats are rounded to the nearest, ties to even codes.

    Attributes: `from` (where it is narrow), `to`: ONNX types; `saturate`: what is too large becomes
    the largest value, not an infinity or no number; `round_mode`: of FLOAT8E8M0.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x = inputs[0]
        source, target = attr.get("from", 0), attr["to"]
        if source in NARROW_FLOATS:
            x = decode(bb, x, source)
        if target not in BYTES:
            return relax.op.astype(x, stock.get_type(target))
        if target in NARROW:
            return _whole(bb, x, target)
        x = bb.emit(relax.op.astype(x, "float32"))
        if target == TensorProto.FLOAT8E8M0:
            mode = attr.get("round_mode", b"up")
            return encode_power(bb, x, mode.decode() if isinstance(mode, bytes) else mode)
        return encode(bb, x, target, saturate=bool(attr.get("saturate", 1)))


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
