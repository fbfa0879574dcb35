"""ONNX QuantizeLinear: one number, a vector or blocks of scales, to any of its integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter, get_type

from tvm_vacc.frontend.onnx_converters._narrow_floats import decode, encode
from tvm_vacc.frontend.onnx_converters.dequantize_linear import counted_from_zero
from tvm_vacc.frontend.onnx_narrow_types import NARROW, NARROW_FLOATS
from tvm_vacc.ops._scales import spread_scale
from tvm_vacc.ops.quantize import quantize


class QuantizeLinear(OnnxOpConverter):
    """Becomes `tvm_vacc.quantize`; codes of 2 and 4 bits take a byte each.

    Codes that are floats are made by stock operators.
    """

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, scale, zero_point = inputs[0], inputs[1], inputs[2]
        # `hold_in_bytes` has written the zero point's type into the attribute.
        wanted = attr.get("output_dtype", 0) or TensorProto.UINT8
        precision = attr.get("precision", TensorProto.UNDEFINED)
        precision = get_type(precision) if precision else str(scale.ty.dtype)
        stands = {
            "axis": counted_from_zero(attr.get("axis", 1), x),
            "block_size": attr.get("block_size", 0),
        }
        if wanted in NARROW_FLOATS:
            wide = bb.emit(relax.op.astype(spread_scale(bb, scale, x.ty, stands), precision))
            numbers = relax.op.divide(bb.emit(relax.op.astype(x, precision)), wide)
            numbers = bb.emit(relax.op.astype(bb.emit(numbers), "float32"))
            if zero_point is not None:
                zero = spread_scale(bb, decode(bb, zero_point, wanted), x.ty, stands)
                numbers = bb.emit(relax.op.add(numbers, zero))
            return encode(bb, numbers, wanted, saturate=bool(attr.get("saturate", 1)))
        dtype = NARROW[wanted][0] if wanted in NARROW else get_type(wanted)
        bits = NARROW[wanted][1] if wanted in NARROW else 8 * np.dtype(dtype).itemsize
        return quantize(
            *[value for value in (x, scale, zero_point) if value is not None],
            **stands,
            dtype=dtype,
            bits=bits,
            precision=precision,
        )
