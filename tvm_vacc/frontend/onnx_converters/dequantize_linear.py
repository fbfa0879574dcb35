"""ONNX DequantizeLinear: one number, a vector or blocks of scales, in any of its integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter, get_type

from tvm_vacc.frontend.onnx_narrow_types import CODE_BITS
from tvm_vacc.ops.dequantize import dequantize


class DequantizeLinear(OnnxOpConverter):
    """Becomes `tvm_vacc.dequantize`, which a linear's weight or activations are recognised by."""

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, scale, zero_point = inputs[0], inputs[1], inputs[2]
        wanted = attr.get("output_dtype", TensorProto.UNDEFINED)
        return dequantize(
            *[value for value in (x, scale, zero_point) if value is not None],
            axis=counted_from_zero(attr.get("axis", 1), x),
            block_size=attr.get("block_size", 0),
            dtype=get_type(wanted) if wanted else str(scale.ty.dtype),
            bits=attr[CODE_BITS] if CODE_BITS in attr else 8 * np.dtype(str(x.ty.dtype)).itemsize,
        )


def counted_from_zero(axis: int, x: relax.Expr) -> int:
    """Return `axis` of `x` as a number from zero."""
    return axis % len(x.ty.shape) if axis < 0 else axis
