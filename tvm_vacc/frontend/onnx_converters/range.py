"""ONNX Range: symbolic lengths as one `arange`, computed bounds with a computed length."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import dims_of


class Range(stock.Range):
    """Stock TVM computes the length at run time, so that no shape after it can be compared."""

    @classmethod
    def _impl_v12(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        bounds = [_integer(value) for value in inputs[:3]]
        if all(bound is not None for bound in bounds) and bounds[2] == 1:
            start, limit, step = bounds
            return relax.op.arange(start, limit, step, "int64")
        if all(isinstance(value, tvm.ir.GenericConst) for value in inputs[:3]):
            return super()._impl_v12(bb, inputs, attr, params)
        start, limit, step = (_scalar(bb, value) for value in inputs[:3])
        return _computed(bb, start, limit, step)


def _integer(value: Any) -> Any:
    """Return an int64 scalar as an expression of shapes, or None where it is not one."""
    if isinstance(value, tvm.ir.GenericConst):
        array = value.value.numpy()
        return int(array.item()) if array.size == 1 and array.dtype == "int64" else None
    return value if tvm.ir.is_prim_expr(value) else None


def _scalar(bb: relax.BlockBuilder, value: Any) -> relax.Expr:
    if tvm.ir.is_prim_expr(value):
        value = relax.op.shape_to_tensor(bb.normalize(relax.ShapeExpr([value])))
    return bb.emit(relax.op.reshape(bb.normalize(value), []))


def _computed(
    bb: relax.BlockBuilder, start: relax.Expr, limit: relax.Expr, step: relax.Expr
) -> relax.Expr:
    """``ceil((limit - start) / step)`` elements; the division is done in float64, as NumPy does."""
    wide = [bb.emit(relax.op.astype(value, "float64")) for value in (start, limit, step)]
    steps = relax.op.divide(bb.emit(relax.op.subtract(wide[1], wide[0])), wide[2])
    count = bb.emit(relax.op.maximum(bb.emit(relax.op.ceil(bb.emit(steps))), _zero()))
    count_1 = bb.emit(relax.op.reshape(bb.emit(relax.op.astype(count, "int64")), [1]))
    [length] = dims_of(bb, count_1)

    def values(first: te.Tensor, stride: te.Tensor) -> te.Tensor:
        def element(index: tirx.Var) -> tirx.Expr:
            return first() + stride() * tirx.Cast(first.dtype, index)

        return te.compute([length], element, name="range")

    return bb.emit_te(values, start, step)


def _zero() -> relax.Expr:
    return relax.const(0.0, "float64")
