"""``relax.tvm_vacc.packed_linear``: ``linear`` over weights in the kernels' own layout."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.isa import current_isa
from schedules.linear_float import (
    WEIGHT_DTYPES,
    linear_kernel,
    packed_shape,
    unpack_linear_weight,
)
from tvm_vacc.ops._registry import (
    as_float32,
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def packed_linear_reference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, out_features: int
) -> np.ndarray:
    """``x W + b`` in fp32.

    Args:
        x: ``[..., in]`` fp32.
        weight: ``[blocks, in, 64]``: `schedules.linear_float.pack_linear_weight` makes it.
        bias: ``[out]``.
        out_features: the true number of output channels; the last block is filled up.
    """
    y = as_float32(x) @ as_float32(unpack_linear_weight(weight, out_features)).T
    return y if bias is None else y + as_float32(bias)


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight = tensor_type(call.args[0]), tensor_type(call.args[1], rank=3)
    out_features = int(call.attrs["out_features"])
    shape = packed_shape(out_features, int(weight.shape[1]))
    if tuple(int(dim) for dim in weight.shape) != shape or not x.shape[-1] == weight.shape[1]:
        raise TypeError(f"packed_linear: weight {weight} does not fit {x} -> {out_features}")
    if str(weight.dtype) not in WEIGHT_DTYPES:
        raise TypeError(f"packed_linear: weights of {weight.dtype} are not supported")
    if len(call.args) == 3 and int(tensor_type(call.args[2], rank=1).shape[0]) != out_features:
        raise TypeError(f"packed_linear: bias {call.args[2].ty} does not fit {out_features}")
    return relax.TensorType([*list(x.shape)[:-1], out_features], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x = flatten_leading(builder, call.args[0], keep=1)
    weight, *bias = call.args[1:]
    tokens, in_features = tensor_type(x, rank=2).shape
    out_features = int(call.attrs["out_features"])
    kernel = linear_kernel(
        int(in_features),
        out_features,
        str(weight.ty.dtype),
        current_isa(),
        bias_dtype=str(bias[0].ty.dtype) if bias else None,
    )
    out_ty = relax.TensorType([tokens, out_features], "float32")
    out = call_kernel(builder, kernel, "linear", [x, weight, *bias], out_ty)
    return restore_leading(builder, out, call.ty)


packed_linear = register_op(
    "packed_linear",
    describe="Linear: x [..., in], weight [blocks, in, 64], optional bias [out]; out_features.",
    infer_type=_infer,
    legalize=_legalize,
    reference=packed_linear_reference,
)
