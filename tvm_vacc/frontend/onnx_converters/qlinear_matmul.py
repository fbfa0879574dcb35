"""ONNX QLinearMatMul: a product of quantised matrices, quantised again."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._codes import dequantized, quantized


class QLinearMatMul(OnnxOpConverter):
    """Becomes what a QDQ graph has round a MatMul, so that both meet the same passes."""

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        left = dequantized(bb, *inputs[0:3], axis=-2)
        right = dequantized(bb, *inputs[3:6], axis=-1)
        return quantized(bb, relax.op.matmul(left, right), inputs[6], inputs[7])
