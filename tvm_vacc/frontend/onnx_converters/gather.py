"""ONNX Gather: stock TVM's on shapes, one `take` on tensors."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class Gather(stock.Gather):
    """Negative indices count from the end.

    `take` in mode ``wrap`` does that by itself; stock TVM compares and selects in the graph,
    around every embedding.
    """

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, indices = inputs[0], inputs[1]
        on_shape = isinstance(data, relax.ShapeExpr) or isinstance(indices, relax.ShapeExpr)
        constant = all(isinstance(value, tvm.ir.GenericConst) for value in (data, indices))
        if on_shape or constant or not isinstance(indices.ty, relax.TensorType):
            return super()._impl_v13(bb, inputs, attr, params)
        return relax.op.take(data, indices, attr.get("axis", 0), mode="wrap")
