"""``relax.tvm_vacc.rope``: rotary position embedding (Su et al., 2021), interleaved pairs."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.rope import rope_kernel
from tvm_vacc.ops._registry import (
    as_float32,
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def rope_reference(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotate the pairs ``(2r, 2r+1)`` of the first ``2R`` of the last dimension; copy the rest.

    Args:
        x: ``[..., heads, head_dim]`` fp32.
        cos: ``[..., R]`` fp32, one angle a pair; `sin` likewise.
    """
    x, cos, sin = as_float32(x), as_float32(cos)[..., None, :], as_float32(sin)[..., None, :]
    rotated = 2 * cos.shape[-1]
    even, odd = x[..., 0:rotated:2], x[..., 1:rotated:2]
    out = x.copy()
    out[..., 0:rotated:2] = even * cos - odd * sin
    out[..., 1:rotated:2] = odd * cos + even * sin
    return out


def _infer(call: relax.Call) -> relax.TensorType:
    x, cos, sin = (tensor_type(arg) for arg in call.args)
    ranks = [len(x.shape), len(cos.shape) + 1, len(sin.shape) + 1]
    if ranks not in ([3] * 3, [4] * 3):
        raise TypeError(f"rope: expected [..., H, D] and two [..., R], got {x}, {cos}, {sin}")
    if int(cos.shape[-1]) != int(sin.shape[-1]) or 2 * int(cos.shape[-1]) > int(x.shape[-1]):
        raise TypeError(f"rope: cos {cos} and sin {sin} do not fit {x}")
    return relax.TensorType(x.shape, "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x = flatten_leading(builder, call.args[0], keep=2)
    cos = flatten_leading(builder, call.args[1], keep=1)
    sin = flatten_leading(builder, call.args[2], keep=1)
    flat_ty = tensor_type(x, rank=3)
    _, heads, head_dim = flat_ty.shape
    kernel = rope_kernel(int(heads), int(head_dim), int(tensor_type(cos).shape[1]))
    out = call_kernel(builder, kernel, "rope", [x, cos, sin], flat_ty)
    return restore_leading(builder, out, call.ty)


rope = register_op(
    "rope",
    describe="RoPE on interleaved pairs: x [..., H, D], cos [..., R], sin [..., R].",
    infer_type=_infer,
    legalize=_legalize,
    reference=rope_reference,
)
