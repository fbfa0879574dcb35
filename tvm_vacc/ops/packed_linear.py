"""``relax.tvm_vacc.packed_linear``: ``linear`` over weights in the kernels' own layout."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from tvm import relax

from schedules.isa import PRODUCTS
from schedules.linear_float import WEIGHT_DTYPES, packed_shape, unpack_linear_weight
from schedules.tiles import Linear
from tvm_vacc.ops._linear_kernel import call_linear
from tvm_vacc.ops._registry import as_float32, register_op, tensor_type


def packed_linear_reference(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    out_features: int,
    products: str,
) -> np.ndarray:
    """``x W + b`` in fp32, as a target with bf16 dot products computes it.

    Args:
        x: ``[..., in]`` fp32.
        weight: ``[blocks, ceil(in / 2), 64, 2]``: made by
            `schedules.linear_float.pack_linear_weight`.
        bias: ``[out]``.
        out_features: the true number of output channels; the last block is filled up.
        products: ``bf16``: `x` is rounded to bf16 where weights are; ``fp32``: nothing is.
    """
    matrix = unpack_linear_weight(weight, out_features, x.shape[-1])
    if products == "bf16" and matrix.dtype == ml_dtypes.bfloat16:
        x = x.astype(ml_dtypes.bfloat16)
    y = as_float32(x) @ as_float32(matrix).T
    return y if bias is None else y + as_float32(bias)


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight = tensor_type(call.args[0]), tensor_type(call.args[1], rank=4)
    out_features = int(call.attrs["out_features"])
    if tuple(int(dim) for dim in weight.shape) != packed_shape(out_features, int(x.shape[-1])):
        raise TypeError(f"packed_linear: weight {weight} does not fit {x} -> {out_features}")
    if str(weight.dtype) not in WEIGHT_DTYPES:
        raise TypeError(f"packed_linear: weights of {weight.dtype} are not supported")
    if call.attrs["products"] not in PRODUCTS:
        raise TypeError(f"packed_linear: there are no products in {call.attrs['products']}")
    if len(call.args) == 3 and int(tensor_type(call.args[2], rank=1).shape[0]) != out_features:
        raise TypeError(f"packed_linear: bias {call.args[2].ty} does not fit {out_features}")
    return relax.TensorType([*list(x.shape)[:-1], out_features], "float32")


def linear_of(call: relax.Call) -> Linear:
    """Return what the kernel of a call is made for."""
    return Linear(
        str(call.args[1].ty.dtype),
        int(call.args[0].ty.shape[-1]),
        int(call.attrs["out_features"]),
        products=str(call.attrs["products"]),
    )


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    bias = call.args[2] if len(call.args) == 3 else None
    return call_linear(builder, call, linear_of(call), "linear", bias)


packed_linear = register_op(
    "packed_linear",
    describe="Linear: x [..., in], weight [blocks, pairs of in, 64, 2], optional bias [out]; "
    "out_features, products, optional tiles.",
    infer_type=_infer,
    legalize=_legalize,
    reference=packed_linear_reference,
)
