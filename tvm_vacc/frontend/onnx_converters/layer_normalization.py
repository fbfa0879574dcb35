"""ONNX LayerNormalization: with its mean and inverse deviation, which stock TVM leaves out."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class LayerNormalization(stock.LayerNormalization):
    """Stock TVM's where one output is asked for and a dimension is not normalised."""

    @classmethod
    def _impl_v17(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, scale, bias = inputs[0], inputs[1], inputs[2]
        rank = len(x.ty.shape)
        first = int(attr.get("axis", -1)) % rank
        if first > 0 and attr["tvm_custom"]["num_outputs"] == 1:
            return super()._impl_v17(bb, inputs, attr, params)
        axes, dtype = list(range(first, rank)), x.ty.dtype
        work = "float64" if dtype == "float64" else "float32"
        x = bb.emit(relax.op.astype(x, work))
        mean = bb.emit(relax.op.mean(x, axes, keepdims=True))
        centred = bb.emit(relax.op.subtract(x, mean))
        squares = bb.emit(relax.op.multiply(centred, centred))
        variance = bb.emit(relax.op.mean(squares, axes, keepdims=True))
        epsilon = relax.const(float(attr.get("epsilon", 1e-5)), work)
        inverse = bb.emit(relax.op.rsqrt(bb.emit(relax.op.add(variance, epsilon))))
        normal = bb.emit(relax.op.multiply(centred, inverse))
        output = bb.emit(relax.op.multiply(bb.emit(relax.op.astype(normal, dtype)), scale))
        if bias is not None:
            output = bb.emit(relax.op.add(output, bias))
        return relax.Tuple([output, mean, inverse][: attr["tvm_custom"]["num_outputs"]])
