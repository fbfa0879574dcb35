"""ONNX operators on single elements that stock TVM gets wrong for some dtypes or attributes."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

_Bb: TypeAlias = relax.BlockBuilder


class Elu(OnnxOpConverter):
    """``alpha * (exp(x) - 1)`` below zero, in the dtype of x; stock TVM takes fp32 only."""

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x = inputs[0]
        dtype = x.ty.dtype
        powers = bb.emit(relax.op.exp(x))
        below = bb.emit(relax.op.subtract(powers, relax.const(1.0, dtype)))
        alpha = relax.const(float(attr.get("alpha", 1.0)), dtype)
        is_below = bb.emit(relax.op.less(x, relax.const(0.0, dtype)))
        return relax.op.where(is_below, bb.emit(relax.op.multiply(below, alpha)), x)


class IsInf(OnnxOpConverter):
    """Stock TVM overlooks `detect_positive` and `detect_negative`."""

    @classmethod
    def _impl_v10(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x = inputs[0]
        wanted = [
            sign * math.inf
            for sign, name in ((1, "detect_positive"), (-1, "detect_negative"))
            if attr.get(name, 1)
        ]
        if not wanted:
            return relax.op.zeros(x.ty.shape, "bool")
        hits = [bb.emit(relax.op.equal(x, relax.const(end, x.ty.dtype))) for end in wanted]
        return hits[0] if len(hits) == 1 else relax.op.logical_or(*hits)


class Pow(stock.Pow):
    """Base and exponent may differ in dtype, and may be integers; the result has the base's."""

    @classmethod
    def _impl_v7(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        base, exponent = inputs[0], inputs[1]
        tensors = [isinstance(x.ty, relax.TensorType) for x in (base, exponent)]
        if not all(tensors):
            return super()._impl_v7(bb, inputs, attr, params)
        dtype = str(base.ty.dtype)
        if "float" in dtype and base.ty.dtype == exponent.ty.dtype:
            return super()._impl_v7(bb, inputs, attr, params)
        work = dtype if "float" in dtype and "float" not in str(exponent.ty.dtype) else "float64"
        base, exponent = (bb.emit(relax.op.astype(x, work)) for x in (base, exponent))
        power = bb.emit(relax.op.power(base, exponent))
        # A power of integers is whole, its computation is not always.
        return relax.op.astype(power if "float" in dtype else bb.emit(relax.op.round(power)), dtype)


class BitShift(OnnxOpConverter):
    """Shifts by the width or more leave nothing but the sign; stock TVM leaves them undefined.

    A negative count is such a shift: it is the large number that the same bits are without a sign.
    """

    @classmethod
    def _impl_v11(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, count = inputs[0], inputs[1]
        dtype = x.ty.dtype
        to_left = attr["direction"] in (b"LEFT", "LEFT")
        width = int(str(dtype).rpartition("int")[2])
        last = relax.const(width - 1, dtype)
        inside = bb.emit(relax.op.clip(count, 0, width - 1))
        is_signed = not str(dtype).startswith("uint")
        shift = relax.op.left_shift if to_left else relax.op.right_shift
        shifted = bb.emit(shift(x, inside))
        beyond = bb.emit(relax.op.not_equal(count, inside))
        left = bb.emit(shift(x, last)) if is_signed and not to_left else relax.const(0, dtype)
        return relax.op.where(beyond, left, shifted)


class BitCast(OnnxOpConverter):
    """Opset 26: the same bits as another dtype of the same width; stock TVM lacks it."""

    @classmethod
    def _impl_v26(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        dtype = stock.get_type(attr["to"])
        if "bool" in (dtype, inputs[0].ty.dtype):  # a byte in memory, a bit to LLVM
            return relax.op.astype(inputs[0], dtype)

        def reinterpret(x: te.Tensor) -> te.Tensor:
            return te.compute(x.shape, lambda *at: tirx.reinterpret(dtype, x(*at)), name="bits")

        return bb.emit_te(reinterpret, inputs[0])


class Size(OnnxOpConverter):
    """The number of elements, a scalar int64."""

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        dims = relax.ShapeExpr(list(inputs[0].ty.shape))
        return relax.op.prod(bb.emit(relax.op.shape_to_tensor(bb.normalize(dims))))


class EyeLike(OnnxOpConverter):
    """Takes any `dtype`; stock TVM takes that of the input."""

    @classmethod
    def _impl_v9(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        dtype = stock.get_type(attr["dtype"]) if "dtype" in attr else inputs[0].ty.dtype
        like = bb.emit(relax.op.zeros(inputs[0].ty.shape, dtype))
        return relax.op.eye_like(like, int(attr.get("k", 0)), dtype)


class Mod(OnnxOpConverter):
    """The sign follows the divisor, or with `fmod` the dividend, as in Python and C."""

    @classmethod
    def _impl_v10(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, y = inputs[0], inputs[1]
        truncated = bool(attr.get("fmod", 0))
        dtype = str(x.ty.dtype)
        if "float" not in dtype:
            return relax.op.mod(x, y) if truncated else relax.op.floor_mod(x, y)
        # An infinite divisor leaves the dividend; its quotient of zero times infinity would not.
        rest = bb.emit(relax.op.mod(x, y))
        is_infinite = bb.emit(relax.op.isinf(y))
        is_finite = bb.emit(relax.op.logical_not(bb.emit(relax.op.isinf(x))))
        untouched = bb.emit(relax.op.logical_and(is_infinite, is_finite))
        rest = bb.emit(relax.op.where(untouched, x, rest))
        if truncated:
            return rest
        # Not TVM's floor_mod: it rounds the quotient, of which a large one leaves no digit right.
        zero = relax.const(0.0, dtype)
        is_below = bb.emit(relax.op.less(y, zero))
        is_other = bb.emit(relax.op.logical_xor(bb.emit(relax.op.less(rest, zero)), is_below))
        moved = bb.emit(relax.op.where(is_other, bb.emit(relax.op.add(rest, y)), rest))
        signed_zero = bb.emit(relax.op.where(is_below, relax.const(-0.0, dtype), zero))
        return relax.op.where(bb.emit(relax.op.equal(rest, zero)), signed_zero, moved)
