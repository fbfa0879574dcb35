"""ONNX Reshape: stock TVM's, and a scalar dimension made a shape of one."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class Reshape(stock.Reshape):
    """Exporters reshape a scalar dimension to ``[1]`` before they concatenate shapes of it.

    Stock TVM takes the scalar for a tensor and fails. A zero in the target copies the data's
    dimension (unless `allowzero`); Relax reads it as ONNX does.
    """

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, target = inputs[0], inputs[1]
        if tvm.ir.is_prim_expr(data) and isinstance(target, tvm.ir.GenericConst):
            values = target.value.numpy().tolist()
            if values in ([1], [-1]):
                return relax.ShapeExpr([data])
            if values == []:
                return data
        return super()._impl_v13(bb, inputs, attr, params)
