"""Slices whose bounds are computed when the model runs."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from tvm import relax, te, tirx

from tvm_vacc.frontend.onnx_converters._run_time_shape import (
    as_tensor,
    dims_of,
    known_length,
    spread,
)

_Bb: TypeAlias = relax.BlockBuilder


def slice_computed(
    bb: _Bb,
    data: relax.Expr,
    starts: relax.Expr,
    ends: relax.Expr,
    axes: relax.Expr | None,
    steps: relax.Expr | None,
) -> relax.Expr:
    """Return ``data[start:end:step]`` along `axes`, the bounds read as Python reads them.

    Args:
        data: of known rank.
        starts: ``[axes]`` int32 or int64, as the others.
        ends: ``[axes]``.
        axes: default: the first ones.
        steps: default: all 1.
    """
    dims = list(data.ty.shape)
    rank, count = len(dims), known_length(starts)
    zero, one, minus = (relax.const(value, "int64") for value in (0, 1, -1))

    axes_A = relax.const(np.arange(count), "int64") if axes is None else axes
    dims_R = as_tensor(bb, dims)
    zero_R, one_R = (relax.const(np.full(rank, value), "int64") for value in (0, 1))
    step_R = one_R if steps is None else spread(bb, steps, axes_A, one_R)
    start_R = spread(bb, starts, axes_A, zero_R)
    end_R = spread(bb, ends, axes_A, dims_R)
    backwards = bb.emit(relax.op.less(step_R, zero))
    lowest_R = bb.emit(relax.op.where(backwards, minus, zero))
    highest_R = bb.emit(relax.op.add(dims_R, lowest_R))

    def clipped(bound_R: relax.Expr) -> relax.Expr:
        turned_R = bb.emit(relax.op.add(bound_R, dims_R))
        is_negative = bb.emit(relax.op.less(bound_R, zero))
        bound_R = bb.emit(relax.op.where(is_negative, turned_R, bound_R))
        bound_R = bb.emit(relax.op.maximum(bound_R, lowest_R))
        return bb.emit(relax.op.minimum(bound_R, highest_R))

    start_R, end_R = clipped(start_R), clipped(end_R)
    sign_R = bb.emit(relax.op.where(backwards, minus, one))
    width_R = bb.emit(relax.op.subtract(end_R, start_R))
    width_R = bb.emit(relax.op.add(width_R, bb.emit(relax.op.subtract(step_R, sign_R))))
    sizes_R = bb.emit(relax.op.floor_divide(width_R, step_R))
    shape = dims_of(bb, bb.emit(relax.op.maximum(sizes_R, zero)))

    def pick(x: te.Tensor, start: te.Tensor, step: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            return x(*(start[axis] + index * step[axis] for axis, index in enumerate(at)))

        return te.compute(shape, element, name="slice")

    return bb.emit_te(pick, data, start_R, step_R)
