"""com.microsoft QGemm: Gemm over quantised matrices, its result quantised or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._codes import dequantized, quantized


class QGemm(OnnxOpConverter):
    """Becomes what a QDQ graph has round a Gemm; the bias has the scale of the product."""

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        left = dequantized(bb, *inputs[0:3], axis=-2)
        right = dequantized(bb, *inputs[3:6], axis=-2 if attr.get("transB") else -1)
        bias, scale, zero_point = inputs[6], inputs[7], inputs[8]
        if attr.get("transA"):
            left = bb.emit(relax.op.permute_dims(left, [1, 0]))
        if attr.get("transB"):
            right = bb.emit(relax.op.permute_dims(right, [1, 0]))
        result = bb.emit(relax.op.matmul(left, right))
        if bias is not None:
            of_product = bb.emit(relax.op.multiply(inputs[1], inputs[4]))
            bias = bb.emit(relax.op.astype(bias, "float32"))
            bias = bb.emit(relax.op.multiply(bias, of_product))
            result = bb.emit(relax.op.add(result, bias))
        if (alpha := attr.get("alpha", 1.0)) != 1.0:
            result = bb.emit(relax.op.multiply(result, relax.const(np.float32(alpha))))
        return result if scale is None else quantized(bb, result, scale, zero_point)
