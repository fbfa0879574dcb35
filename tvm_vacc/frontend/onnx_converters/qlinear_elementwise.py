"""com.microsoft QLinearAdd and QLinearMul: sums and products of quantised tensors."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._codes import dequantized, quantized


class QLinearAdd(OnnxOpConverter):
    """Becomes what a QDQ graph has round an Add."""

    combine = relax.op.add

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        left = dequantized(bb, *inputs[0:3], axis=-1)
        right = dequantized(bb, *inputs[3:6], axis=-1)
        return quantized(bb, cls.combine(left, right), inputs[6], inputs[7])


class QLinearMul(QLinearAdd):
    """Becomes what a QDQ graph has round a Mul."""

    combine = relax.op.multiply
