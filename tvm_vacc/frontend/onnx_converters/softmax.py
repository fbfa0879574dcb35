"""ONNX Softmax: of 16-bit values in the steps that the standard defines it by."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._attention_bias import cast


class Softmax(stock.Softmax):
    """Stock TVM adds up in 16 bits what 16 bits hold, and loses the small weights of a long row.

    Here the sum is made in fp32; every step is rounded to the type of the data.
    """

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, axis = inputs[0], int(attr.get("axis", -1))
        dtype = str(x.ty.dtype)
        if dtype not in ("float16", "bfloat16"):
            return super()._impl_v13(bb, inputs, attr, params)
        largest = bb.emit(relax.op.max(x, axis, keepdims=True))
        below = bb.emit(relax.op.subtract(x, largest))
        powers = cast(bb, bb.emit(relax.op.exp(cast(bb, below, "float32"))), dtype)
        total = bb.emit(relax.op.sum(cast(bb, powers, "float32"), axis, keepdims=True))
        return relax.op.divide(powers, cast(bb, total, dtype))
