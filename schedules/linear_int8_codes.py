"""``y = x W + b`` over int8 weights and activations that are codes of 8 bits already.

What models in ONNX's QDQ form compute: a scale and a zero point for all tokens, from the graph.
The loop nest and the weights are those of `schedules.linear_int8`; the zero point costs one
multiplication a result, by the sum of the channel's codes, which is made when the weights are
packed. Every sum is exact in int32.
"""

from __future__ import annotations

from functools import cache

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.linear_int8 import LARGEST_IN, PACKED_DTYPE, Int8Linear, packed_shape
from schedules.linear_int8_amx import spare_rows
from schedules.quantize_activations import copy_codes
from schedules.tiles import IntegerTiles, int8_tiles

CODES = ("int8", "uint8")
"""Dtypes that activations may have."""


@cache
def linear_int8_codes_kernel(
    in_features: int,
    out_features: int,
    isa: Isa,
    *,
    x_dtype: str,
    bias_dtype: str | None,
    tiles: IntegerTiles | None = None,
) -> tirx.PrimFunc:
    """Kernel over codes; its arguments are, in this order:

    ``x [tokens, in]`` of `x_dtype`, ``weight`` packed, ``scale [out]`` fp32, ``x_scale [1]`` fp32,
    ``x_zero_point [1]`` int32, ``sums [out]`` int32, ``[bias [out]]``, ``out [tokens, out]`` fp32.

    Args:
        in_features: of `x`.
        out_features: of the result.
        isa: what for.
        x_dtype: one of `CODES`.
        bias_dtype: dtype of the bias argument; None: there is no such argument.
        tiles: see `schedules.tiles`; None: `int8_tiles`.

    Raises:
        ValueError: `x_dtype` is neither, or `in_features` could overflow int32.
    """
    if x_dtype not in CODES:
        raise ValueError(f"codes are one of {', '.join(CODES)}, not {x_dtype}")
    if in_features > LARGEST_IN:
        raise ValueError(f"in_features is {in_features}, int32 sums hold up to {LARGEST_IN}")
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear_int8_codes")
        T.func_attr({"tirx.noalias": True})
        names = ("x", "weight", "scale", "x_scale", "x_zero_point", "sums")
        names += (*(("bias",) if bias_dtype else ()), "out")
        handles = {name: T.arg(name, T.handle()) for name in names}
        tokens = dimension("tokens")
        x = match_buffer(handles["x"], (tokens, in_features), x_dtype)
        shape = packed_shape(out_features, in_features)
        weight = match_buffer(handles["weight"], shape, PACKED_DTYPE)
        scale = match_buffer(handles["scale"], (out_features,), "float32")
        x_scale = match_buffer(handles["x_scale"], (1,), "float32")
        x_zero_point = match_buffer(handles["x_zero_point"], (1,), "int32")
        sums = match_buffer(handles["sums"], (out_features,), "int32")
        bias = match_buffer(handles["bias"], (out_features,), bias_dtype) if bias_dtype else None
        out = match_buffer(handles["out"], (tokens, out_features), "float32")
        tiles = tiles or int8_tiles(in_features, isa)
        codes = copy_codes(x, x_scale, tokens, spare_rows=spare_rows(tiles))
        # Unsigned codes are multiplied less 128, and so is their zero point.
        zero_point = T.bind(x_zero_point[0] - (128 if x_dtype == "uint8" else 0))
        Int8Linear(
            isa,
            tiles,
            in_features,
            out_features,
            codes,
            weight,
            scale,
            bias,
            out,
            zero_point=zero_point,
            weight_sums=sums,
        ).emit(tokens)
    return builder.get()
