"""com.microsoft DynamicQuantizeMatMul: activations quantised by their range, times codes."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._codes import dequantized
from tvm_vacc.frontend.onnx_converters.dynamic_quantize_linear import quantized_by_range


class DynamicQuantizeMatMul(OnnxOpConverter):
    """Becomes what a QDQ graph has round a MatMul, the left one with a scale of its own."""

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, codes, scale, zero_point, bias = (inputs[index] for index in range(5))
        left = dequantized(bb, *quantized_by_range(bb, x), axis=-1)
        product = relax.op.matmul(left, dequantized(bb, codes, scale, zero_point, axis=-1))
        return product if bias is None else relax.op.add(bb.emit(product), bias)
