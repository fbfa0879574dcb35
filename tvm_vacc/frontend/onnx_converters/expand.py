"""ONNX Expand: numpy broadcasting in both directions, symbolic and computed sizes included."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import as_tensor, dims_of, known_length


def _is_one(dim: Any) -> bool:
    return isinstance(dim, tirx.IntImm) and int(dim) == 1


class Expand(stock.Expand):
    """Stock TVM reads every dimension of the data as a constant when the target shape is one.

    Raises:
        NotImplementedError: the length of a computed target is not known.
    """

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, target = inputs[0], inputs[1]
        if isinstance(target, tvm.ir.GenericConst):
            target = relax.ShapeExpr([int(dim) for dim in target.value.numpy()])
        if isinstance(target.ty, relax.TensorType) and isinstance(data.ty, relax.TensorType):
            return _expand_to(bb, data, target)
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


def _expand_to(bb: relax.BlockBuilder, data: relax.Expr, target_R: relax.Expr) -> relax.Expr:
    """Broadcast to sizes that are computed when the model runs."""
    have, length = list(data.ty.shape), known_length(target_R)
    rank = max(len(have), length)
    one = tirx.IntImm("int64", 1)
    have = [one] * (rank - len(have)) + have
    if length < rank:
        ones = relax.const([1] * (rank - length), "int64")
        target_R = bb.emit(relax.op.concat([ones, target_R], axis=0))
    have_R = as_tensor(bb, have)
    is_one = bb.emit(relax.op.equal(have_R, relax.const(1, "int64")))
    dims = dims_of(bb, bb.emit(relax.op.where(is_one, target_R, have_R)))
    skipped = rank - len(data.ty.shape)

    def broadcast(x: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            own = zip(at[skipped:], have[skipped:], strict=True)
            return x(*(tirx.if_then_else(size == 1, 0, index) for index, size in own))

        return te.compute(dims, element, name="expand")

    return bb.emit_te(broadcast, data)
