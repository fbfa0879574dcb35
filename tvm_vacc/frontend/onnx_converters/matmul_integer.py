"""ONNX MatMulInteger: a product of 8-bit integers less their zero points, in int32."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class MatMulInteger(OnnxOpConverter):
    """Zero points are one number, or one a row of the left or a column of the right matrix."""

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        left = _less_zero_point(bb, inputs[0], inputs[2], axis=-1)
        right = _less_zero_point(bb, inputs[1], inputs[3], axis=0)
        return relax.op.matmul(left, right, out_dtype="int32")


def _less_zero_point(
    bb: relax.BlockBuilder, x: relax.Expr, zero_point: relax.Expr | None, axis: int
) -> relax.Var:
    """Emit ``x - zero_point`` as int32; a vector gets a dimension of 1 at `axis`."""
    wide = bb.emit(relax.op.astype(x, "int32"))
    if zero_point is None:
        return wide
    zero = bb.emit(relax.op.astype(zero_point, "int32"))
    shape = zero.ty.shape
    if len(shape) == 1 and int(shape[0]) > 1:
        zero = bb.emit(relax.op.expand_dims(zero, axis))
    return bb.emit(relax.op.subtract(wide, zero))
