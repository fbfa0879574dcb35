"""ONNX Reshape: stock TVM's, and targets that are symbolic or computed when the model runs."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import as_tensor, dims_of, known_length


class Reshape(stock.Reshape):
    """Exporters reshape a scalar dimension to ``[1]`` before they concatenate shapes of it.

    Stock TVM takes the scalar for a tensor and fails. A zero in the target copies the data's
    dimension (unless `allowzero`); Relax reads it as ONNX does.

    Raises:
        NotImplementedError: the length of a computed target is not known.
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
        computed = isinstance(target, relax.Var) and isinstance(target.ty, relax.TensorType)
        if computed and isinstance(data.ty, relax.TensorType):
            sizes_R = _resolve(bb, data, target, bool(attr.get("allowzero", 0)))
            return relax.op.reshape(data, relax.ShapeExpr(dims_of(bb, sizes_R)))
        return super()._impl_v13(bb, inputs, attr, params)


def _resolve(
    bb: relax.BlockBuilder, data: relax.Expr, target_R: relax.Expr, keep_zeros: bool
) -> relax.Expr:
    """Return the target with its zeros and its -1 replaced by sizes."""
    have, rank = list(data.ty.shape), known_length(target_R)
    zero, one, rest = (relax.const(value, "int64") for value in (0, 1, -1))
    if not keep_zeros:
        copied_R = as_tensor(bb, (have + [1] * rank)[:rank])
        is_zero = bb.emit(relax.op.equal(target_R, zero))
        target_R = bb.emit(relax.op.where(is_zero, copied_R, target_R))
    is_rest = bb.emit(relax.op.equal(target_R, rest))
    known = bb.emit(relax.op.prod(bb.emit(relax.op.where(is_rest, one, target_R))))
    total = bb.emit(relax.op.prod(as_tensor(bb, have)))
    # Where a kept zero makes the product zero there is no -1 to resolve.
    left = bb.emit(relax.op.floor_divide(total, bb.emit(relax.op.maximum(known, one))))
    return bb.emit(relax.op.where(is_rest, left, target_R))
