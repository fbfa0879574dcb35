"""``relax.tvm_vacc.rms_norm``: root-mean-square normalisation (Zhang and Sennrich, 2019)."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.isa import current_isa
from schedules.rms_norm import rms_norm_kernel
from tvm_vacc.ops._registry import (
    as_float32,
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def rms_norm_reference(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """``x / sqrt(mean(x^2) + eps) * weight`` in fp32.

    Args:
        x: ``[..., hidden]`` fp32.
        weight: ``[hidden]``.
        eps: added to the mean square.
    """
    x = as_float32(x)
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return (x / np.sqrt(mean_square + np.float32(eps))) * as_float32(weight)


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight = tensor_type(call.args[0]), tensor_type(call.args[1], rank=1)
    if not x.shape[-1] == weight.shape[0]:
        raise TypeError(f"rms_norm: weight {weight} does not fit {x}")
    return relax.TensorType(x.shape, "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x = flatten_leading(builder, call.args[0], keep=1)
    weight = call.args[1]
    flat_ty = tensor_type(x, rank=2)
    kernel = rms_norm_kernel(
        int(flat_ty.shape[1]), float(call.attrs["eps"]), str(weight.ty.dtype), current_isa()
    )
    out = call_kernel(builder, kernel, "rms_norm", [x, weight], flat_ty)
    return restore_leading(builder, out, call.ty)


rms_norm = register_op(
    "rms_norm",
    describe="RMSNorm: x [..., hidden], weight [hidden]; attribute eps.",
    infer_type=_infer,
    legalize=_legalize,
    reference=rms_norm_reference,
)
