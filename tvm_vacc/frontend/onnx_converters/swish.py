"""ONNX Swish (opset 24): ``x * sigmoid(alpha * x)``."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class Swish(OnnxOpConverter):
    """Becomes `nn.silu` where alpha is 1, which is the default."""

    @classmethod
    def _impl_v24(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x = inputs[0]
        alpha = attr.get("alpha", 1.0)
        if alpha == 1.0:
            return relax.op.nn.silu(x)
        scaled = bb.emit(relax.op.multiply(x, relax.const(alpha, x.ty.dtype)))
        return relax.op.multiply(x, bb.emit(relax.op.sigmoid(scaled)))
