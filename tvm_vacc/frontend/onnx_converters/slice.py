"""ONNX Slice: stock TVM's, with the bounds made plain first."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.sym import Analyzer

from tvm_vacc.frontend.onnx_converters._run_time_shape import is_computed
from tvm_vacc.frontend.onnx_converters.slice_computed import slice_computed

_OPEN_END = 2**31 - 1
"""Exporters write "to the end" as the largest int32 or int64."""


class Slice(stock.Slice):
    """Clips constant bounds to the data's shape, and drops an axis that is taken whole.

    Stock TVM leaves ``min(2**63 - 1, seq)`` in the shape of a symbolic axis, which equals nothing.
    """

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data = inputs[0]
        bounds = [inputs[index] for index in range(1, 5)]
        if isinstance(data.ty, relax.TensorType) and any(map(is_computed, bounds)):
            return slice_computed(bb, data, *bounds)
        starts, ends = _values(inputs[1]), _values(inputs[2])
        if starts is None or ends is None:
            return super()._impl_v13(bb, inputs, attr, params)
        if isinstance(data, relax.ShapeExpr) or data.ty.shape is None:
            return super()._impl_v13(bb, inputs, attr, params)
        axes = list(range(len(starts))) if inputs[3] is None else _values(inputs[3])
        steps = [1] * len(starts) if inputs[4] is None else _values(inputs[4])
        if axes is None or steps is None or not all(_positive(step) for step in steps):
            return super()._impl_v13(bb, inputs, attr, params)
        shape, kept = list(data.ty.shape), []
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            axis = int(axis) % len(shape)
            begin, stop = _clip(start, end, shape[axis])
            if not (_same(begin, 0) and _same(stop, shape[axis]) and int(step) == 1):
                kept.append((axis, begin, stop, int(step)))
        if not kept:
            return data
        bounds = [list(column) for column in zip(*kept, strict=True)]
        known = all(isinstance(bound, int) for bound in (*bounds[1], *bounds[2]))
        return relax.op.strided_slice(data, *bounds, assume_inbound=not known)

    _impl_v10 = _impl_v13  # the same, which stock TVM has no converter of


def _values(value: relax.Expr) -> list[Any] | None:
    if isinstance(value, tvm.ir.GenericConst):
        return value.value.numpy().tolist()
    return list(value.values) if isinstance(value, relax.ShapeExpr) else None


def _positive(step: Any) -> bool:
    return isinstance(step, int | tirx.IntImm) and int(step) > 0


def _clip(start: Any, end: Any, dim: Any) -> tuple[Any, Any]:
    """Return bounds as Python's slicing reads them; a symbolic `dim` leaves inner bounds alone."""
    if isinstance(end, int | tirx.IntImm) and int(end) >= _OPEN_END:
        end = dim
    start, end = _from_start(start, dim), _from_start(end, dim)
    if all(isinstance(value, int | tirx.IntImm) for value in (start, end, dim)):
        start, end, _ = slice(int(start), int(end)).indices(int(dim))
    return start, end


def _from_start(bound: Any, dim: Any) -> Any:
    """Return a bound that counts from the end, such as ``-seq`` of ``past + seq``, from the start.

    It is left as it is where its sign, or whether it lies before the first element, is not known.
    """
    if isinstance(bound, int | tirx.IntImm) or isinstance(dim, int | tirx.IntImm):
        return bound
    sizes = Analyzer()
    for size in [*tirx.analysis.undefined_vars(bound), *tirx.analysis.undefined_vars(dim)]:
        sizes.bind(size, tvm.ir.Range.from_min_extent(tirx.IntImm(size.ty.dtype, 1), _OPEN_END))
    counts_back = sizes.can_prove(bound < 0) and sizes.can_prove(bound + dim >= 0)
    return sizes.simplify(bound + dim) if counts_back else bound


def _same(a: Any, b: Any) -> bool:
    return bool(Analyzer().can_prove_equal(a, b))
