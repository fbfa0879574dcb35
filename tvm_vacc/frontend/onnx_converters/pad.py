"""ONNX Pad: stock TVM's, and pads, axes or a value that are computed when the model runs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import (
    as_tensor,
    dims_of,
    is_computed,
    known_length,
    spread,
)

_Bb: TypeAlias = relax.BlockBuilder


class Pad(stock.Pad):
    """Inputs: data, pads ``[2 * axes]``, the value, axes ``[axes]`` (default: all).

    A negative pad cuts off.
    """

    @classmethod
    def _impl_v19(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        data, pads, value, axes = (inputs[index] for index in range(4))
        if not any(map(is_computed, (pads, value, axes))):
            return super()._impl_v19(bb, inputs, attr, params)
        rank = len(data.ty.shape)
        count = known_length(pads) // 2
        axes_A = relax.const(np.arange(rank), "int64") if axes is None else axes
        none_R = relax.const(np.zeros(rank), "int64")
        begin_A, end_A = (
            bb.emit(relax.op.strided_slice(pads, [0], [start], [start + count]))
            for start in (0, count)
        )
        begin_R, end_R = (spread(bb, half_A, axes_A, none_R) for half_A in (begin_A, end_A))
        grown_R = bb.emit(relax.op.add(begin_R, end_R))
        shape = dims_of(bb, bb.emit(relax.op.add(as_tensor(bb, data.ty.shape), grown_R)))
        if value is None:
            value = relax.const(0, data.ty.dtype)
        value = bb.emit(relax.op.reshape(value, []))
        mode = attr.get("mode", b"constant").decode()
        return bb.emit_te(_kernel, data, begin_R, value, shape, mode)

    _impl_v11 = _impl_v18 = _impl_v19


def _kernel(
    data: te.Tensor, begin: te.Tensor, value: te.Tensor, shape: list[tirx.Var], mode: str
) -> te.Tensor:
    def element(*at: tirx.Var) -> tirx.Expr:
        places = [index - begin[axis] for axis, index in enumerate(at)]
        sized = list(zip(places, data.shape, strict=True))
        if mode != "constant":
            return data(*(_FOLDED[mode](place, size) for place, size in sized))
        inside = [tirx.And(place >= 0, place < size) for place, size in sized]
        return tirx.if_then_else(tirx.all(*inside), data(*places), value())

    return te.compute(shape, element, name="pad")


def _reflected(place: tirx.Expr, size: tirx.Expr) -> tirx.Expr:
    """Go back and forth between the first and the last element, which stand once each."""
    period = tirx.max(2 * (size - 1), 1)
    step = tirx.floormod(place, period)
    return tirx.Select(step < size, step, period - step)


_FOLDED = {
    "edge": lambda place, size: tirx.max(tirx.min(place, size - 1), 0),
    "reflect": _reflected,
    "wrap": tirx.floormod,
}
"""By mode: which element stands where there is none."""
