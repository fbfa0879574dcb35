"""``relax.tvm_vacc.dequantize``: ONNX DequantizeLinear, ``(x - zero_point) * scale``.

The logical operator of imported graphs: `fuse_dequantize` takes those into `quantized_linear` that
a linear reads; what is left lowers to stock operators, which fuse with what stands round them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvm_vacc.ops._registry import register_op, tensor_type
from tvm_vacc.ops._scales import check_scale, spread_reference, spread_scale


def dequantize_reference(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None = None,
    *,
    axis: int,
    block_size: int,
    dtype: str,
    bits: int,
) -> np.ndarray:
    """``(x - zero_point) * scale`` in the scale's type, returned as `dtype`.

    Args:
        x: integers of any shape.
        scale: ``[]``, ``[1]``, ``[n]`` along `axis`, or one number a block.
        zero_point: as `scale`, in the type of `x`; None: zero.
        axis: what a vector of scales runs along, or the blocks do.
        block_size: elements along `axis` that share a scale; 0: there are no blocks.
        dtype: of the result.
        bits: of a code, which kernels are chosen by; nothing here depends on it.
    """
    shape = np.shape(x)
    values = np.asarray(x).astype(np.int64)
    if zero_point is not None:
        values = values - spread_reference(zero_point, shape, axis, block_size).astype(np.int64)
    wide = spread_reference(scale, shape, axis, block_size)
    return (values.astype(wide.dtype) * wide).astype(dtype)


def _infer(call: relax.Call) -> relax.TensorType:
    x = tensor_type(call.args[0])
    for arg in call.args[1:]:
        check_scale("dequantize", x, tensor_type(arg), call.attrs)
    return relax.TensorType(x.shape, str(call.attrs["dtype"]))


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    def emit(expr: relax.Expr) -> Any:
        return builder.emit(expr)

    x, scale, *zero_point = call.args
    ty, dtype = tensor_type(x), str(scale.ty.dtype)
    values = emit(relax.op.astype(x, "int32")) if zero_point else x
    if zero_point:
        zero = spread_scale(builder, zero_point[0], ty, call.attrs)
        values = emit(relax.op.subtract(values, emit(relax.op.astype(zero, "int32"))))
    floats = emit(relax.op.astype(values, dtype))
    result = emit(relax.op.multiply(floats, spread_scale(builder, scale, ty, call.attrs)))
    return relax.op.astype(result, str(call.attrs["dtype"]))


dequantize = register_op(
    "dequantize",
    describe="ONNX DequantizeLinear: x, scale, optional zero point; axis, block_size, dtype, bits.",
    infer_type=_infer,
    legalize=_legalize,
    reference=dequantize_reference,
)
