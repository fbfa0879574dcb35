"""``relax.tvm_vacc.swiglu``: the gated activation of GLM's feed-forward layers."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.isa import current_isa
from schedules.swiglu import swiglu_kernel
from tvm_vacc.ops._registry import (
    as_float32,
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def swiglu_reference(gate_up: np.ndarray) -> np.ndarray:
    """``silu(gate) * up`` in fp32, with ``silu(x) = x / (1 + exp(-x))``.

    Args:
        gate_up: ``[..., 2 * features]`` fp32: all gates, then all ups.
    """
    gate, up = np.split(as_float32(gate_up), 2, axis=-1)
    with np.errstate(over="ignore"):
        return gate / (1 + np.exp(-gate)) * up


def _infer(call: relax.Call) -> relax.TensorType:
    gate_up = tensor_type(call.args[0])
    width = int(gate_up.shape[-1])
    if width % 2:
        raise TypeError(f"swiglu: the last dimension must be even, got {gate_up}")
    return relax.TensorType([*list(gate_up.shape)[:-1], width // 2], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    gate_up = flatten_leading(builder, call.args[0], keep=1)
    tokens, width = tensor_type(gate_up, rank=2).shape
    features = int(width) // 2
    out_ty = relax.TensorType([tokens, features], "float32")
    kernel = swiglu_kernel(features, current_isa())
    out = call_kernel(builder, kernel, "swiglu", [gate_up], out_ty)
    return restore_leading(builder, out, call.ty)


swiglu = register_op(
    "swiglu",
    describe="SwiGLU: gate_up [..., 2 * features].",
    infer_type=_infer,
    legalize=_legalize,
    reference=swiglu_reference,
)
