"""``relax.tvm_vacc.quantize``: ONNX QuantizeLinear, ``saturate(round(x / scale) + zero_point)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvm_vacc.ops._registry import register_op, tensor_type
from tvm_vacc.ops._scales import check_scale, spread_reference, spread_scale


def integer_range(dtype: str, bits: int) -> tuple[int, int]:
    """Return the smallest and the largest integer of `bits` bits, signed as `dtype` is."""
    if dtype.startswith("u"):
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def quantize_reference(
    x: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray | None = None,
    *,
    axis: int,
    block_size: int,
    dtype: str,
    bits: int,
    precision: str,
) -> np.ndarray:
    """``saturate(round(x / scale) + zero_point)``, halves rounded to even.

    Args:
        x: numbers of any shape.
        scale: ``[]``, ``[1]``, ``[n]`` along `axis`, or one number a block.
        zero_point: as `scale`, integers; None: zero.
        axis: what a vector of scales runs along, or the blocks do.
        block_size: elements along `axis` that share a scale; 0: there are no blocks.
        dtype: of the result: an integer type of 8 bits or more.
        bits: of a code; fewer than those of `dtype` leave its range unused.
        precision: float type in which `x` is divided.
    """
    shape = np.shape(x)
    wide = spread_reference(scale, shape, axis, block_size).astype(precision)
    codes = np.rint((np.asarray(x).astype(precision) / wide).astype(np.float32))
    if zero_point is not None:
        zero = spread_reference(zero_point, shape, axis, block_size)
        codes = codes + zero.astype(np.float32)
    return np.clip(codes, *integer_range(dtype, bits)).astype(dtype)


def _infer(call: relax.Call) -> relax.TensorType:
    x = tensor_type(call.args[0])
    for arg in call.args[1:]:
        check_scale("quantize", x, tensor_type(arg), call.attrs)
    return relax.TensorType(x.shape, str(call.attrs["dtype"]))


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    def emit(expr: relax.Expr) -> Any:
        return builder.emit(expr)

    def cast(expr: relax.Expr, dtype: str) -> Any:
        return expr if expr.ty.dtype == dtype else emit(relax.op.astype(expr, dtype))

    x, scale, *zero_point = call.args
    ty, precision = tensor_type(x), str(call.attrs["precision"])
    wide = cast(spread_scale(builder, scale, ty, call.attrs), precision)
    quotient = emit(relax.op.divide(cast(x, precision), wide))
    codes = emit(relax.op.round(cast(quotient, "float32")))
    if zero_point:
        zero = spread_scale(builder, zero_point[0], ty, call.attrs)
        codes = emit(relax.op.add(codes, cast(zero, "float32")))
    dtype = str(call.attrs["dtype"])
    codes = emit(relax.op.clip(codes, *integer_range(dtype, int(call.attrs["bits"]))))
    return relax.op.astype(codes, dtype)


quantize = register_op(
    "quantize",
    describe="ONNX QuantizeLinear: x, scale, optional zero point; axis, block_size, dtype, bits, "
    "precision.",
    infer_type=_infer,
    legalize=_legalize,
    reference=quantize_reference,
)
