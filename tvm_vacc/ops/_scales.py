"""How the scales and zero points of ONNX's quantisation stand against a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, tirx

from tvm_vacc.ops._registry import tensor_type


def check_scale(name: str, x: relax.TensorType, scale: relax.TensorType, attrs: Any) -> None:
    """Refuse a scale that is neither one number, nor a vector along `axis`, nor one a block.

    Raises:
        TypeError: says what does not fit.
    """
    axis, block = int(attrs["axis"]), int(attrs["block_size"])
    if block:
        fits = len(scale.shape) == len(x.shape) > axis
    else:
        fits = len(scale.shape) <= 1 and (_is_one(scale) or len(x.shape) > axis)
    if not fits:
        raise TypeError(f"{name}: the scale {scale} does not fit {x} (axis {axis}, block {block})")


def spread_scale(
    builder: relax.BlockBuilder, scale: relax.Expr, x: relax.TensorType, attrs: Any
) -> relax.Expr:
    """Emit a scale or zero point in a shape that broadcasts against `x`.

    Args:
        scale: one number (``[]`` or ``[1]``), ``[n]`` along `axis`, or the shape of `x` with
            ``ceil(n / block_size)`` along `axis`.
        x: the tensor that it belongs to.
        attrs: holds `axis`, counted from zero, and `block_size`, 0 where there are no blocks.
    """
    axis, block = int(attrs["axis"]), int(attrs["block_size"])
    ty = tensor_type(scale)
    if block:
        wide = builder.emit(relax.op.repeat(scale, block, axis))
        length = x.shape[axis]
        return builder.emit(relax.op.strided_slice(wide, [axis], [0], [length]))
    if _is_one(ty):
        return builder.emit(relax.op.reshape(scale, []))
    shape = [ty.shape[0] if index == axis else 1 for index in range(len(x.shape))]
    return builder.emit(relax.op.reshape(scale, shape))


def spread_reference(
    scale: np.ndarray, shape: tuple[int, ...], axis: int, block_size: int
) -> np.ndarray:
    """The same in NumPy."""
    scale = np.asarray(scale)
    if block_size:
        wide = np.repeat(scale, block_size, axis)
        return np.take(wide, np.arange(shape[axis]), axis)
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _is_one(ty: relax.TensorType) -> bool:
    return all(isinstance(dim, tirx.IntImm) and int(dim) == 1 for dim in ty.shape)
