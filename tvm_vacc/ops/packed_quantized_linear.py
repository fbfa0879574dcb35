"""``relax.tvm_vacc.packed_quantized_linear``: ``quantized_linear`` in the kernels' own layouts."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules import linear_int4, linear_int8
from schedules.tiles import Linear
from tvm_vacc.ops._linear_kernel import call_linear
from tvm_vacc.ops._registry import register_op, tensor_type
from tvm_vacc.ops.quantized_linear import (
    check_codes,
    quantized_linear_reference,
    split_arguments,
)
from tvm_vacc.quantize.scheme import SCHEMES

CODES_ARGUMENTS = 3
"""Arguments that belong to activations that are codes: scale, zero point, sums of weights."""


def packed_quantized_linear_reference(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    *others: np.ndarray,
    scheme: str,
    group_size: int,
    out_features: int,
) -> np.ndarray:
    """``x W + b`` in fp32.

    Args:
        x: ``[..., in]`` fp32, or codes in int8 or uint8.
        weight: codes, packed by `schedules.linear_int8` or, for 4 bits, `schedules.linear_int4`.
        scale: packed beside them.
        others: where `x` are codes, their scale ``[1]`` fp32 and zero point ``[1]`` int32, and
            the sum ``[out]`` int32 of each channel's codes; then the bias ``[out]`` fp32, where
            there is one.
        scheme: a key of `SCHEMES`.
        group_size: inputs that share a scale.
        out_features: the true number of output channels; the last block is filled up.
    """
    in_features = x.shape[-1]
    if SCHEMES[scheme].weight_bits == 8:
        codes = linear_int8.unpack_linear_int8(weight, out_features, in_features)
        scales = scale[:, None]
    else:
        codes, scales = linear_int4.unpack_linear_int4(weight, scale, out_features)
    if len(others) >= CODES_ARGUMENTS:
        others = (*others[:2], *others[CODES_ARGUMENTS:])
    return quantized_linear_reference(
        x, codes, scales, *others, scheme=scheme, group_size=group_size
    )


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight, scale = (tensor_type(arg) for arg in call.args[:3])
    in_features, out_features = int(x.shape[-1]), int(call.attrs["out_features"])
    want: tuple[tuple[int, ...], tuple[int, ...]]
    if SCHEMES[str(call.attrs["scheme"])].weight_bits == 8:
        want = linear_int8.packed_shape(out_features, in_features), (out_features,)
    else:
        group_size = int(call.attrs["group_size"])
        want = linear_int4.packed_shapes(out_features, in_features, group_size)
    found = tuple(tuple(int(dim) for dim in ty.shape) for ty in (weight, scale))
    if found != want:
        raise TypeError(
            f"packed_quantized_linear: weight {weight}, scale {scale} do not fit {x} -> "
            f"{out_features}"
        )
    codes, bias = split_arguments(call, CODES_ARGUMENTS)
    check_codes(x, codes, str(call.attrs["scheme"]))
    for vector in (*codes[2:], *bias):
        if int(tensor_type(vector, rank=1).shape[0]) != out_features:
            raise TypeError(f"packed_quantized_linear: bias or sums {vector.ty} do not fit")
    return relax.TensorType([*list(x.shape)[:-1], out_features], "float32")


def linear_of(call: relax.Call) -> Linear:
    """Return what the kernel of a call is made for."""
    scheme = SCHEMES[str(call.attrs["scheme"])]
    codes, _ = split_arguments(call, CODES_ARGUMENTS)
    return Linear(
        scheme.name,
        int(call.args[0].ty.shape[-1]),
        int(call.attrs["out_features"]),
        takes=str(call.args[0].ty.dtype) if codes else "float",
        group_size=int(call.attrs["group_size"]) if scheme.weight_bits < 8 else 0,
    )


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    _, bias = split_arguments(call, CODES_ARGUMENTS)
    linear = linear_of(call)
    name = f"linear_{linear.weights}"
    return call_linear(builder, call, linear, name, bias[0] if bias else None)


packed_quantized_linear = register_op(
    "packed_quantized_linear",
    describe="Linear: x [..., in], packed weight and scale, scale and zero point [1] of x and sums "
    "[out] of weights where x is codes, optional bias [out]; scheme, group_size, out_features, "
    "optional tiles.",
    infer_type=_infer,
    legalize=_legalize,
    reference=packed_quantized_linear_reference,
)
