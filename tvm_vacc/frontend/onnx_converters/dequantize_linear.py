"""ONNX DequantizeLinear: one number, a vector or blocks of scales, in any of its integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter, get_type

from tvm_vacc.frontend.onnx_converters._narrow_floats import decode
from tvm_vacc.frontend.onnx_narrow_types import CODE_TYPE, NARROW, NARROW_FLOATS
from tvm_vacc.ops._scales import spread_scale
from tvm_vacc.ops.dequantize import dequantize


class DequantizeLinear(OnnxOpConverter):
    """Becomes `tvm_vacc.dequantize`, which a linear's weight or activations are recognised by.

    Codes that are floats are numbers times a scale: stock operators.
    """

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, scale, zero_point = inputs[0], inputs[1], inputs[2]
        wanted = attr.get("output_dtype", TensorProto.UNDEFINED)
        dtype = get_type(wanted) if wanted else str(scale.ty.dtype)
        codes = attr.get(CODE_TYPE, TensorProto.UNDEFINED)
        stands = {
            "axis": counted_from_zero(attr.get("axis", 1), x),
            "block_size": attr.get("block_size", 0),
        }
        if codes in NARROW_FLOATS:
            numbers = decode(bb, x, codes)
            if zero_point is not None:
                zero = spread_scale(bb, decode(bb, zero_point, codes), x.ty, stands)
                numbers = bb.emit(relax.op.subtract(numbers, zero))
            numbers = bb.emit(relax.op.astype(numbers, str(scale.ty.dtype)))
            wide = spread_scale(bb, scale, x.ty, stands)
            return relax.op.astype(bb.emit(relax.op.multiply(numbers, wide)), dtype)
        return dequantize(
            *[value for value in (x, scale, zero_point) if value is not None],
            **stands,
            dtype=dtype,
            bits=NARROW[codes][1] if codes else 8 * np.dtype(str(x.ty.dtype)).itemsize,
        )


def counted_from_zero(axis: int, x: relax.Expr) -> int:
    """Return `axis` of `x` as a number from zero."""
    return axis % len(x.ty.shape) if axis < 0 else axis
