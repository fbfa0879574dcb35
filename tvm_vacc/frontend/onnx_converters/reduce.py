"""ONNX ReduceSum and its kin: stock TVM's, and over axes that are computed when the model runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._run_time_shape import (
    as_tensor,
    constant,
    dims_of,
    known_length,
)

_Bb: TypeAlias = relax.BlockBuilder

_ALONE = {"op_pattern": 8}
"""Marks a kernel opaque: TVM fails to fuse one that takes sizes as plain arguments."""


@dataclass(frozen=True)
class _Kind:
    """A reduction: how two elements combine, and what none make."""

    combine: Callable[..., tirx.Expr]
    start: Callable[[str], tirx.Expr]


@dataclass(frozen=True)
class _Axes:
    """What the computed axes of one node make of the shape ``[d0, d1, ...]`` of the data.

    Attributes:
        outer: the shape with reduced dimensions as 1.
        inner: the shape with all others as 1, so that an element's place is the sum of both.
        kept: the dimensions of the result.
    """

    outer: list[tirx.Var]
    inner: list[tirx.Var]
    kept: list[tirx.Var]

    def reduce(self, bb: _Bb, x: relax.Expr, kind: _Kind) -> relax.Expr:
        """Return the reduction of `x`, of shape `outer`."""
        combine = te.comm_reducer(kind.combine, kind.start, name="combine")
        # TVM sets a result to its start within the loop over the elements, and here there are none.
        is_empty = any(isinstance(size, tirx.IntImm) and int(size) == 0 for size in x.ty.shape)

        def kernel(data: te.Tensor, inner: list[tirx.Var]) -> te.Tensor:
            places = [te.reduce_axis((0, size)) for size in inner]

            def element(*at: tirx.Var) -> tirx.Expr:
                if is_empty:
                    return kind.start(data.dtype)
                place = [start + step for start, step in zip(at, places, strict=True)]
                return combine(data(*place), axis=places)

            return te.compute(self.outer, element, name="reduce")

        return bb.emit_te(kernel, x, relax.ShapeExpr(self.inner), primfunc_attrs=_ALONE)


def _resolve(bb: _Bb, data: relax.Expr, axes_A: relax.Expr, keepdims: bool) -> _Axes:
    have, count = list(data.ty.shape), known_length(axes_A)
    rank = len(have)
    zero, one = relax.const(0, "int64"), relax.const(1, "int64")
    axes_A = bb.emit(relax.op.astype(axes_A, "int64"))
    is_negative = bb.emit(relax.op.less(axes_A, zero))
    from_end = bb.emit(relax.op.add(axes_A, relax.const(rank, "int64")))
    axes_A1 = bb.emit(
        relax.op.expand_dims(bb.emit(relax.op.where(is_negative, from_end, axes_A)), 1)
    )
    all_R = relax.const(np.arange(rank), "int64")
    hits_AR = bb.emit(relax.op.astype(bb.emit(relax.op.equal(axes_A1, all_R)), "int64"))
    reduced_R = bb.emit(relax.op.equal(bb.emit(relax.op.max(hits_AR, 0)), one))
    have_R = as_tensor(bb, have)
    outer_R = bb.emit(relax.op.where(reduced_R, one, have_R))
    inner_R = bb.emit(relax.op.where(reduced_R, have_R, one))
    outer, inner = dims_of(bb, outer_R), dims_of(bb, inner_R)
    if keepdims:
        return _Axes(outer, inner, outer)
    # The k-th dimension of the result is the one that k unreduced ones precede.
    kept_R = bb.emit(relax.op.where(reduced_R, zero, one))
    place_R = bb.emit(relax.op.subtract(bb.emit(relax.op.cumsum(kept_R, 0)), one))
    places_K1 = relax.const(np.arange(rank - count).reshape(-1, 1), "int64")
    is_at_KR = bb.emit(relax.op.astype(bb.emit(relax.op.equal(places_K1, place_R)), "int64"))
    sizes_KR = bb.emit(relax.op.multiply(is_at_KR, bb.emit(relax.op.multiply(kept_R, have_R))))
    return _Axes(outer, inner, dims_of(bb, bb.emit(relax.op.sum(sizes_KR, 1))))


def _infinite(sign: int) -> Callable[[str], tirx.Expr]:
    """Return what a maximum (-1) or minimum (1) of nothing is: infinite where the dtype can be."""

    def start(dtype: str) -> tirx.Expr:
        if "float" not in str(dtype):
            return te.min_value(dtype) if sign < 0 else te.max_value(dtype)
        return tirx.const(sign * np.inf, dtype)

    return start


_SUM = _Kind(lambda a, b: a + b, lambda dtype: tirx.const(0, dtype))
_PRODUCT = _Kind(lambda a, b: a * b, lambda dtype: tirx.const(1, dtype))
_MAX = _Kind(lambda a, b: tirx.Max(a, b), _infinite(-1))
_MIN = _Kind(lambda a, b: tirx.Min(a, b), _infinite(1))


def _log_sum_exp(bb: _Bb, axes: _Axes, x: relax.Expr) -> relax.Expr:
    peak = axes.reduce(bb, x, _MAX)
    # An infinite peak would make the difference from itself no number.
    size = bb.emit(relax.op.abs(peak))
    is_finite = bb.emit(relax.op.less(size, relax.const(np.inf, x.ty.dtype)))
    peak = bb.emit(relax.op.where(is_finite, peak, relax.const(0, x.ty.dtype)))

    def difference(data: te.Tensor, most: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            sizes = zip(at, most.shape, strict=True)
            return data(*at) - most(*(tirx.Min(place, size - 1) for place, size in sizes))

        return te.compute(data.shape, element, name="difference")

    below = bb.emit_te(difference, x, peak)
    powers = bb.emit(relax.op.exp(below))
    total = axes.reduce(bb, powers, _SUM)
    return bb.emit(relax.op.add(bb.emit(relax.op.log(total)), peak))


def _mean(bb: _Bb, axes: _Axes, x: relax.Expr) -> relax.Expr:
    count = bb.emit(relax.op.prod(as_tensor(bb, axes.inner)))
    total = axes.reduce(bb, x, _SUM)
    return bb.emit(relax.op.divide(total, bb.emit(relax.op.astype(count, x.ty.dtype))))


def _squares(bb: _Bb, axes: _Axes, x: relax.Expr) -> relax.Expr:
    return axes.reduce(bb, bb.emit(relax.op.multiply(x, x)), _SUM)


def _bounds(kind: _Kind) -> Callable[[_Bb, _Axes, relax.Expr], relax.Expr]:
    def reduce(bb: _Bb, axes: _Axes, x: relax.Expr) -> relax.Expr:
        if x.ty.dtype != "bool":
            return axes.reduce(bb, x, kind)
        numbers = bb.emit(relax.op.astype(x, "uint8"))
        return bb.emit(relax.op.astype(axes.reduce(bb, numbers, kind), "bool"))

    return reduce


_REDUCTIONS: dict[str, Callable[[_Bb, _Axes, relax.Expr], relax.Expr]] = {
    "ReduceL1": lambda bb, axes, x: axes.reduce(bb, bb.emit(relax.op.abs(x)), _SUM),
    "ReduceL2": lambda bb, axes, x: bb.emit(relax.op.sqrt(_squares(bb, axes, x))),
    "ReduceLogSum": lambda bb, axes, x: bb.emit(relax.op.log(axes.reduce(bb, x, _SUM))),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _bounds(_MAX),
    "ReduceMean": _mean,
    "ReduceMin": _bounds(_MIN),
    "ReduceProd": lambda bb, axes, x: axes.reduce(bb, x, _PRODUCT),
    "ReduceSum": lambda bb, axes, x: axes.reduce(bb, x, _SUM),
    "ReduceSumSquare": _squares,
}


def _with_infinity(bb: _Bb, name: str, result: relax.Expr) -> relax.Expr:
    """Return the result of a node of stock TVM's, whose extremes begin at the largest finite one.

    A row of nothing but infinities would come out finite, and masked attention takes it as visible.
    """
    result = bb.normalize(result)
    dtype = str(result.ty.dtype)
    if name not in ("ReduceMax", "ReduceMin") or "float" not in dtype:
        return result
    sign = -1 if name == "ReduceMax" else 1
    edge = relax.const(sign * float(ml_dtypes.finfo(dtype).max), dtype)
    is_edge = bb.emit(relax.op.equal(bb.emit(result), edge))
    return relax.op.where(is_edge, relax.const(sign * np.inf, dtype), result)


class _ComputedAxes(OnnxOpConverter):
    """Takes axes that no constant says; all other nodes are stock TVM's."""

    @classmethod
    def get_converter(cls, opset: int) -> Callable[..., relax.Expr]:
        stock_convert = super().get_converter(opset)

        def convert(bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
            axes = inputs[1]
            if axes is None or constant(axes) is not None or known_length(axes) == 0:
                known = inputs if axes is None or constant(axes) is not None else inputs[:1]
                result = stock_convert(bb, stock.onnx_input(known), attr, params)
                return _with_infinity(bb, cls.__name__, result)
            resolved = _resolve(bb, inputs[0], axes, bool(attr.get("keepdims", 1)))
            result = _REDUCTIONS[cls.__name__](bb, resolved, inputs[0])
            return relax.op.reshape(result, relax.ShapeExpr(resolved.kept))

        return convert


def reduction_converters() -> list[type[OnnxOpConverter]]:
    """Return a converter for each ONNX reduction."""
    return [type(name, (_ComputedAxes, getattr(stock, name)), {}) for name in _REDUCTIONS]
