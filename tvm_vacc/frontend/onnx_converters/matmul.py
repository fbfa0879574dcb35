"""ONNX MatMul: 16-bit values are multiplied and added up in fp32, as every other runtime does."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

_NARROW = ("float16", "bfloat16")


class MatMul(OnnxOpConverter):
    """Stock TVM adds up in the type of the operands, which loses half of 16-bit digits."""

    @classmethod
    def _impl_v1(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        left, right = inputs[0], inputs[1]
        dtype = str(left.ty.dtype)
        if dtype not in _NARROW:
            return relax.op.matmul(left, right)
        product = bb.emit(relax.op.matmul(left, right, out_dtype="float32"))
        return relax.op.astype(product, dtype)
