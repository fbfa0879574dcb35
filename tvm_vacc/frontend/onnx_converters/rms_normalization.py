"""ONNX RMSNormalization: stock TVM's, over all dimensions too."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class RMSNormalization(stock.RMSNormalization):
    """TVM's kernel wants a dimension that is not normalised; where there is none it gets one."""

    @classmethod
    def _impl_v23(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, scale = inputs[0], inputs[1]
        shape = list(x.ty.shape)
        if int(attr.get("axis", -1)) % len(shape) > 0:
            return super()._impl_v23(bb, inputs, attr, params)
        rows = bb.emit(relax.op.expand_dims(x, 0))
        attr = {**attr, "axis": 1}
        normalized = bb.emit(super()._impl_v23(bb, [rows, scale], attr, params))
        return relax.op.reshape(normalized, shape)
