"""Quantising and dequantising inside the converters of integer operators."""

from __future__ import annotations

from typing import Any

from tvm import relax

from tvm_vacc.ops.dequantize import dequantize
from tvm_vacc.ops.quantize import quantize


def dequantized(
    bb: relax.BlockBuilder,
    codes: relax.Expr,
    scale: relax.Expr,
    zero_point: relax.Expr | None,
    *,
    axis: int,
) -> relax.Var:
    """Emit `codes` in fp32; a vector of scales runs along `axis`, counted from the end."""
    scale = _float32(bb, scale)
    operands = [value for value in (codes, scale, zero_point) if value is not None]
    call = dequantize(
        *operands,
        axis=max(len(codes.ty.shape) + axis, 0),
        block_size=0,
        dtype="float32",
        bits=8,
    )
    return bb.emit(call)


def quantized(
    bb: relax.BlockBuilder, x: relax.Expr, scale: relax.Expr, zero_point: relax.Expr | None
) -> relax.Call:
    """Return `x` as codes of 8 bits: unsigned ones, where there is no zero point to tell."""
    x = bb.emit(x)
    operands: list[Any] = [x, _float32(bb, scale)]
    if zero_point is not None:
        operands.append(zero_point)
    return quantize(
        *operands,
        axis=max(len(x.ty.shape) - 2, 0),
        block_size=0,
        dtype="uint8" if zero_point is None else str(zero_point.ty.dtype),
        bits=8,
        precision="float32",
    )


def _float32(bb: relax.BlockBuilder, scale: relax.Expr) -> relax.Expr:
    if scale.ty.dtype == "float32":
        return scale
    return bb.emit(relax.op.astype(scale, "float32"))
