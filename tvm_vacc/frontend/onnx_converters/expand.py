"""ONNX Expand: numpy broadcasting in both directions, symbolic dimensions included."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock


def _is_one(dim: Any) -> bool:
    return isinstance(dim, tirx.IntImm) and int(dim) == 1


class Expand(stock.Expand):
    """Stock TVM reads every dimension of the data as a constant when the target shape is one."""

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, target = inputs[0], inputs[1]
        if isinstance(target, tvm.ir.GenericConst):
            target = relax.ShapeExpr([int(dim) for dim in target.value.numpy()])
        if not isinstance(target, relax.ShapeExpr) or data.ty.shape is None:
            return super()._impl_v13(bb, [data, target], attr, params)
        have, want = list(data.ty.shape), list(target.values)
        rank = max(len(have), len(want))
        one = tirx.IntImm("int64", 1)
        have = [one] * (rank - len(have)) + have
        want = [one] * (rank - len(want)) + want
        # A target of 1 keeps the data's dimension: Expand never shrinks.
        shape = [h if _is_one(w) else w for h, w in zip(have, want, strict=True)]
        return relax.op.broadcast_to(data, relax.ShapeExpr(shape))
