"""ONNX LpNormalization, which stock TVM lacks: ``x / norm(x)``, and zero where the norm is zero."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class LpNormalization(OnnxOpConverter):
    """Attributes: `axis`, `p` (1 or 2)."""

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, axis = inputs[0], int(attr.get("axis", -1))
        if int(attr.get("p", 2)) == 1:
            sizes = bb.emit(relax.op.abs(x))
            norm = bb.emit(relax.op.sum(sizes, axis, keepdims=True))
        else:
            squares = bb.emit(relax.op.multiply(x, x))
            norm = bb.emit(relax.op.sqrt(bb.emit(relax.op.sum(squares, axis, keepdims=True))))
        zero = relax.const(0.0, x.ty.dtype)
        is_zero = bb.emit(relax.op.equal(norm, zero))
        return relax.op.where(is_zero, zero, bb.emit(relax.op.divide(x, norm)))
