"""ONNX CumSum and CumProd, along an axis that may be computed when the model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._run_time_shape import constant


class _Cumulative(OnnxOpConverter):
    """Inputs: data, and axis as a scalar or ``[1]``. Attributes: `exclusive`, `reverse`.

    Where the axis is computed, the result is made along each and the right one selected.
    """

    accumulate: ClassVar[Callable[..., relax.Expr]]

    @classmethod
    def _impl_v11(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, axis = inputs[0], inputs[1]
        rank = len(data.ty.shape)

        def along(place: int) -> relax.Expr:
            turned = bb.emit(relax.op.flip(data, place)) if attr.get("reverse", 0) else data
            exclusive = bool(attr.get("exclusive", 0))
            result = bb.emit(cls.accumulate(turned, place, exclusive=exclusive))
            return bb.emit(relax.op.flip(result, place)) if attr.get("reverse", 0) else result

        value = constant(axis)
        if value is not None:
            return along(int(value.item()) % rank)
        axis = bb.emit(relax.op.reshape(bb.emit(relax.op.astype(axis, "int64")), []))
        result = along(0)
        for place in range(1, rank):
            hits = [
                bb.emit(relax.op.equal(axis, relax.const(spelling, "int64")))
                for spelling in (place, place - rank)
            ]
            hit = bb.emit(relax.op.logical_or(*hits))
            result = bb.emit(relax.op.where(hit, along(place), result))
        return result


class CumSum(_Cumulative):
    """Opset 11."""

    accumulate = staticmethod(relax.op.cumsum)


class CumProd(_Cumulative):
    """Opset 26, which stock TVM lacks."""

    accumulate = staticmethod(relax.op.cumprod)
