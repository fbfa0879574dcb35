"""ONNX ConstantOfShape: stock TVM's, and of shapes that are computed when the model runs."""

from __future__ import annotations

from typing import Any

from onnx import numpy_helper
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import dims_of, known_length


class ConstantOfShape(stock.ConstantOfShape):
    """Attribute `value`: a tensor of one element; default: 0 as fp32."""

    @classmethod
    def _impl_v9(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        target = inputs[0]
        if not isinstance(target, relax.Var) or not isinstance(target.ty, relax.TensorType):
            return super()._impl_v9(bb, inputs, attr, params)
        array = numpy_helper.to_array(attr["value"]) if "value" in attr else None
        value = 0.0 if array is None else array.reshape(-1)[0].item()
        dtype = "float32" if array is None else array.dtype.name
        if known_length(target) == 0:
            return relax.const(value, dtype)
        dims = dims_of(bb, bb.emit(relax.op.astype(target, "int64")))

        def fill() -> te.Tensor:
            return te.compute(dims, lambda *_: tirx.const(value, dtype), name="fill")

        return bb.emit_te(fill)
