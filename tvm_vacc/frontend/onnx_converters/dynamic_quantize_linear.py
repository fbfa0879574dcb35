"""ONNX DynamicQuantizeLinear: codes of 8 bits by the range of what is there."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.ops.quantize import quantize


class DynamicQuantizeLinear(OnnxOpConverter):
    """One scale and zero point a tensor; a tensor of zeros has the scale 1 and codes of zero."""

    @classmethod
    def _impl_v11(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        return relax.Tuple(list(quantized_by_range(bb, inputs[0])))


def quantized_by_range(
    bb: relax.BlockBuilder, x: relax.Expr
) -> tuple[relax.Var, relax.Var, relax.Var]:
    """Emit uint8 codes of `x`, their scale ``[]`` fp32, and their zero point ``[]`` uint8."""
    zero, top = relax.const(np.float32(0)), relax.const(np.float32(255))
    largest = bb.emit(relax.op.maximum(bb.emit(relax.op.max(x)), zero))
    smallest = bb.emit(relax.op.minimum(bb.emit(relax.op.min(x)), zero))
    span = bb.emit(relax.op.divide(bb.emit(relax.op.subtract(largest, smallest)), top))
    # ONNX Runtime's: its specification divides nought by nought there.
    is_flat = bb.emit(relax.op.equal(span, zero))
    scale = bb.emit(relax.op.where(is_flat, relax.const(np.float32(1)), span))
    start = bb.emit(relax.op.divide(smallest, scale))
    point = bb.emit(relax.op.clip(bb.emit(relax.op.subtract(zero, start)), 0, 255))
    zero_point = bb.emit(relax.op.astype(bb.emit(relax.op.round(point)), "uint8"))
    codes = quantize(
        x,
        scale,
        zero_point,
        axis=0,
        block_size=0,
        dtype="uint8",
        bits=8,
        precision="float32",
    )
    return bb.emit(codes), scale, zero_point
