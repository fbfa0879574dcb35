"""``relax.tvm_vacc.quantized_linear``: a projection by codes and their scales.

The logical operator: `quantize_linears` makes it, and `fuse_dequantize` of a quantised model;
`pack_weights` turns it into `packed_quantized_linear`. Where nothing packs, it lowers to stock
operators over the weight in fp32.

Activations are fp32 or, in w8a8, codes of 8 bits: then two more arguments follow the scales, the
activations' own scale and zero point, for all tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from schedules.linear_int8_codes import CODES
from tvm_vacc.ops._registry import as_float32, register_op, tensor_type
from tvm_vacc.quantize.scheme import SCHEMES

CODES_ARGUMENTS = 2
"""Arguments that belong to activations that are codes: their scale and zero point."""


def quantize_tokens(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 codes ``[..., in]`` and scales ``[..., 1]`` of activations, one scale a token.

    The scale is the largest magnitude over 127; a token of zeros has codes of zero.
    """
    x = as_float32(x)
    scale = np.abs(x).max(axis=-1, keepdims=True, initial=0) / np.float32(127)
    codes = np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale > 0))
    return codes.astype(np.int8), scale


def dequantize(codes: np.ndarray, scales: np.ndarray, group_size: int) -> np.ndarray:
    """Return ``codes * scales`` in fp32.

    Args:
        codes: ``[out, in]`` int8.
        scales: ``[out, groups]`` fp32.
        group_size: inputs that share a scale; the last group may be shorter.
    """
    spread = np.repeat(as_float32(scales), group_size, axis=1)[:, : codes.shape[1]]
    return as_float32(codes) * spread


def quantized_linear_reference(
    x: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    *others: np.ndarray,
    scheme: str,
    group_size: int,
) -> np.ndarray:
    """``x @ dequantize(weight).T + bias`` in fp32; `x` is quantised first where `scheme` says so.

    Args:
        x: ``[..., in]`` fp32, or codes in int8 or uint8.
        weight: codes ``[out, in]`` int8.
        scale: ``[out, groups]`` fp32.
        others: where `x` are codes, their scale ``[1]`` fp32 and zero point ``[1]`` int32; then
            the bias ``[out]`` fp32, where there is one.
        scheme: a key of `SCHEMES`.
        group_size: inputs that share a scale.
    """
    bias = others[-1] if len(others) % 2 else None
    if len(others) >= 2:
        x = as_float32(x.astype(np.int32) - others[1]) * others[0]
    elif SCHEMES[scheme].activations == "int8":
        x = as_float32(x)
        codes, token_scale = quantize_tokens(x)
        x = as_float32(codes) * token_scale
    out = as_float32(x) @ dequantize(weight, scale, group_size).T
    return out if bias is None else out + as_float32(bias)


def split_arguments(
    call: relax.Call, codes_arguments: int
) -> tuple[list[relax.Expr], list[relax.Expr]]:
    """Return what follows the scales: what belongs to activations that are codes, and the bias.

    Args:
        call: of a quantised linear.
        codes_arguments: how many arguments belong to such activations.
    """
    rest = list(call.args[3:])
    count = codes_arguments if str(call.args[0].ty.dtype) in CODES else 0
    return rest[:count], rest[count:]


def check_codes(x: relax.TensorType, codes: list[relax.Expr], scheme: str) -> None:
    """Refuse activations that are neither fp32 nor, in w8a8, codes with one scale and zero point.

    Raises:
        TypeError: says what does not fit.
    """
    found = [(str(arg.ty.dtype), [int(dim) for dim in arg.ty.shape]) for arg in codes[:2]]
    if codes and SCHEMES[scheme].activations != "int8":
        raise TypeError(f"quantized_linear: {scheme} does not take codes {x}")
    if codes and found != [("float32", [1]), ("int32", [1])]:
        raise TypeError(f"quantized_linear: codes need a scale and a zero point, got {found}")


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight, scale = (
        tensor_type(arg, rank) for arg, rank in zip(call.args[:3], (None, 2, 2), strict=True)
    )
    scheme = SCHEMES.get(str(call.attrs["scheme"]))
    if scheme is None:
        raise TypeError(f"quantized_linear: there is no scheme {call.attrs['scheme']}")
    out_features, in_features = (int(dim) for dim in weight.shape)
    groups = scheme.groups(in_features, int(call.attrs["group_size"]))
    if int(x.shape[-1]) != in_features or str(weight.dtype) != "int8":
        raise TypeError(f"quantized_linear: codes {weight} do not fit {x}")
    if [int(dim) for dim in scale.shape] != [out_features, groups]:
        raise TypeError(f"quantized_linear: scales {scale} do not fit codes {weight}")
    codes, bias = split_arguments(call, CODES_ARGUMENTS)
    check_codes(x, codes, scheme.name)
    if bias and int(tensor_type(bias[0], rank=1).shape[0]) != out_features:
        raise TypeError(f"quantized_linear: bias {bias[0].ty} does not fit {weight}")
    return relax.TensorType([*list(x.shape)[:-1], out_features], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, codes, scale = call.args[:3]
    of_codes, bias = split_arguments(call, CODES_ARGUMENTS)
    if of_codes:
        x = _floats(builder, x, *of_codes)
    elif SCHEMES[str(call.attrs["scheme"])].activations == "int8":
        x = _rounded_tokens(builder, x)
    in_features = int(codes.ty.shape[1])
    spread = builder.emit(relax.op.repeat(scale, int(call.attrs["group_size"]), axis=1))
    spread = builder.emit(relax.op.strided_slice(spread, [1], [0], [in_features]))
    floats = builder.emit(relax.op.astype(codes, "float32"))
    weight = builder.emit(relax.op.multiply(floats, spread))
    out = relax.op.matmul(x, builder.emit(relax.op.permute_dims(weight, [1, 0])))
    return relax.op.add(builder.emit(out), bias[0]) if bias else out


def _floats(
    builder: relax.BlockBuilder, x: relax.Expr, scale: relax.Expr, zero_point: relax.Expr
) -> relax.Expr:
    """Emit what codes stand for."""
    integers = builder.emit(relax.op.astype(x, "int32"))
    integers = builder.emit(relax.op.subtract(integers, zero_point))
    floats = builder.emit(relax.op.astype(integers, "float32"))
    return builder.emit(relax.op.multiply(floats, scale))


def _rounded_tokens(builder: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    """Emit `x` rounded to multiples of its token's scale."""

    def emit(expr: relax.Expr) -> Any:
        return builder.emit(expr)

    largest = emit(relax.op.max(emit(relax.op.abs(x)), axis=-1, keepdims=True))
    smallest = relax.const(np.float32(np.finfo(np.float32).tiny))
    largest = emit(relax.op.maximum(largest, smallest))
    scale = emit(relax.op.divide(largest, relax.const(np.float32(127))))
    codes = emit(relax.op.round(emit(relax.op.divide(x, scale))))
    return emit(relax.op.multiply(codes, scale))


quantized_linear = register_op(
    "quantized_linear",
    describe="Linear: x [..., in], weight [out, in] int8, scale [out, groups], scale and zero "
    "point [1] of x where it is codes, optional bias [out]; scheme, group_size.",
    infer_type=_infer,
    legalize=_legalize,
    reference=quantized_linear_reference,
)
