"""ONNX ConvInteger and QLinearConv: convolutions of 8-bit integers less their zero points."""

from __future__ import annotations

from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._codes import quantized

_Bb: TypeAlias = relax.BlockBuilder


class ConvInteger(OnnxOpConverter):
    """Inputs: x, w, their zero points: one number each, or one an output channel of w. In int32."""

    @classmethod
    def _impl_v10(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        return _convolved(bb, inputs, [inputs[index] for index in range(4)], attr, params)


class QLinearConv(OnnxOpConverter):
    """Inputs: x, its scale and zero point, w with its own, those of the result, a bias in int32.

    Scales and zero points of w are one number, or one an output channel. Sums are exact.
    """

    @classmethod
    def _impl_v10(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (
            inputs[index] for index in range(9)
        )
        total = _convolved(bb, inputs, [x, w, x_zero, w_zero], attr, params)
        rank = len(x.ty.shape)
        if bias is not None:
            total = bb.emit(relax.op.add(total, _a_channel(bb, bias, rank, 1)))
        scale = bb.emit(relax.op.multiply(_a_channel(bb, w_scale, rank, 1), x_scale))
        floats = bb.emit(relax.op.astype(total, "float32"))
        return quantized(bb, relax.op.multiply(floats, scale), y_scale, y_zero)


def _convolved(
    bb: _Bb, inputs: Any, operands: list[Any], attr: dict[str, Any], params: Any
) -> relax.Expr:
    """Emit the convolution in int32, as stock TVM's converter of Conv writes it."""
    x, w, x_zero, w_zero = operands
    rank = len(x.ty.shape)
    x = _less(bb, x, None if x_zero is None else _a_channel(bb, x_zero, rank, 1))
    w = _less(bb, w, None if w_zero is None else _a_channel(bb, w_zero, rank, 0))
    return bb.emit(stock.Conv._impl_v11(bb, type(inputs)([x, w]), attr, params))


def _less(bb: _Bb, x: relax.Expr, zero: relax.Expr | None) -> relax.Expr:
    wide = bb.emit(relax.op.astype(x, "int32"))
    if zero is None:
        return wide
    return bb.emit(relax.op.subtract(wide, bb.emit(relax.op.astype(zero, "int32"))))


def _a_channel(bb: _Bb, values: relax.Expr, rank: int, axis: int) -> relax.Expr:
    """Return one number as a scalar, or a vector along `axis` of `rank` dimensions."""
    if not len(values.ty.shape):
        return values
    shape = [1] * rank
    shape[axis] = values.ty.shape[0]
    return bb.emit(relax.op.reshape(values, shape))
