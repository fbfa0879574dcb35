"""``y = x W + b`` over int4 weights in groups along `in`, each with a scale an output channel.

Layout of the packed weights: ``[blocks, in / 8, 128]`` uint8, a block of 32 consecutive output
channels; the byte ``4 c + j`` of step ``s`` holds ``weight + 8`` of channel ``c`` at ``in`` =
``8 s + j`` in its low half and at ``8 s + 4 + j`` in its high half, so that one mask, and one shift
and mask, give the operands of two dot products. Scales are ``[blocks, groups, 32]`` fp16, in the
order in which they are read; zeros fill up the last block.

Activations are int16, two rows of bytes (`schedules.quantize_activations`). A group's sums are
exact in int32; groups are added in fp32 in ascending order, so that a token's result is
bit-identical alone and in any batch.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.integer_linear import BLOCK, BYTES_A_STEP
from schedules.isa import Isa
from schedules.linear_int4_nest import OFFSET, PLANES, STEP, Int4Linear
from schedules.linear_int4_pairs import Int4PairsLinear, pair_activations
from schedules.quantize_activations import quantize_activations
from schedules.tiles import IntegerTiles

GROUPS = (32, 64, 128)
"""Values of `in` that may share a scale."""

PACKED_DTYPE = "uint8"

SCALE_DTYPE = "float16"
"""Scales cost 1/8 (groups of 32) to 1/32 of the weights' bytes; their rounding, 2**-11 of a
weight, is far below that of the weights."""


def packed_shapes(
    out_features: int, in_features: int, group: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the shapes of weights ``(blocks, in / 8, 128)`` and scales ``(blocks, groups, 32)``.

    Raises:
        ValueError: `group` is not 32, 64 or 128, or does not divide `in_features`.
    """
    if group not in GROUPS:
        raise ValueError(f"groups are of {', '.join(map(str, GROUPS))} values, not {group}")
    if in_features % group:
        raise ValueError(f"in_features {in_features} is no multiple of the group, {group}")
    blocks = -(-out_features // BLOCK)
    return (blocks, in_features // STEP, BYTES_A_STEP), (blocks, in_features // group, BLOCK)


def pack_linear_int4(
    weight_OI: np.ndarray, scale_OG: np.ndarray, group: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pack weights ``[out, in]`` int8 of -8 to 7 and scales ``[out, in / group]`` of any float.

    Returns:
        ``[blocks, in / 8, 128]`` uint8 and ``[blocks, groups, 32]`` fp16.

    Raises:
        ValueError: the group does not fit, a weight is out of range, or a scale is beyond fp16.
    """
    out_features, in_features = weight_OI.shape
    weight_shape, scale_shape = packed_shapes(out_features, in_features, group)
    if weight_OI.size and not -8 <= weight_OI.min() <= weight_OI.max() <= 7:
        raise ValueError(f"int4 weights are -8 to 7, not {weight_OI.min()} to {weight_OI.max()}")
    with np.errstate(over="ignore"):
        scales = scale_OG.astype(SCALE_DTYPE)
    if not np.isfinite(scales).all():
        raise ValueError("scales must be finite and within fp16, up to 65504")
    packed = np.empty(weight_shape, PACKED_DTYPE)
    # Rows a power of two apart would share a few sets of the cache: one line more a row.
    rows = np.zeros((BLOCK, in_features + 64), np.int8)
    for block in range(len(packed)):
        channels = weight_OI[block * BLOCK : (block + 1) * BLOCK]
        rows[: len(channels), :in_features] = channels
        rows[len(channels) :] = 0
        words = rows[:, :in_features].view(np.uint32).T
        low = words[0::2] & np.uint32(0x0F0F0F0F)
        high = (words[1::2] << np.uint32(4)) & np.uint32(0xF0F0F0F0)
        packed[block].view(np.uint32)[:] = (low | high) ^ np.uint32(0x88888888)
    padded = np.zeros((scale_shape[0] * BLOCK, scale_shape[1]), SCALE_DTYPE)
    padded[:out_features] = scales
    blocks = padded.reshape(scale_shape[0], BLOCK, scale_shape[1])
    return packed, np.ascontiguousarray(blocks.transpose(0, 2, 1))


def unpack_linear_int4(
    packed: np.ndarray, packed_scale: np.ndarray, out_features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Undo `pack_linear_int4`: weights ``[out, in]`` int8 and scales ``[out, groups]`` fp16."""
    blocks, steps, _ = packed.shape
    halves = np.stack([packed & 15, packed >> 4], axis=2).astype(np.int8) - np.int8(OFFSET)
    values = halves.reshape(blocks, steps * 2, BLOCK, 4).transpose(0, 2, 1, 3)
    scales = packed_scale.transpose(0, 2, 1).reshape(blocks * BLOCK, -1)
    return values.reshape(blocks * BLOCK, steps * STEP)[:out_features], scales[:out_features]


@cache
def linear_int4_kernel(
    in_features: int,
    out_features: int,
    group: int,
    isa: Isa,
    *,
    bias_dtype: str | None,
    tiles: IntegerTiles | None = None,
) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, in] fp32, weight, scale, [bias [out]], out [tokens, out] fp32)``.

    Args:
        bias_dtype: dtype of the bias argument; None: there is no such argument.
        tiles: see `schedules.tiles`; None: as they are by default.

    Raises:
        ValueError: `group` is not 32, 64 or 128, or does not divide `in_features`.
    """
    weight_shape, scale_shape = packed_shapes(out_features, in_features, group)
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear_int4")
        T.func_attr({"tirx.noalias": True})
        names = ("x", "weight", "scale", *(("bias",) if bias_dtype else ()), "out")
        handles = {name: T.arg(name, T.handle()) for name in names}
        tokens = dimension("tokens")
        x = match_buffer(handles["x"], (tokens, in_features), "float32")
        weight = match_buffer(handles["weight"], weight_shape, PACKED_DTYPE)
        scale = match_buffer(handles["scale"], scale_shape, SCALE_DTYPE)
        bias = match_buffer(handles["bias"], (out_features,), bias_dtype) if bias_dtype else None
        out = match_buffer(handles["out"], (tokens, out_features), "float32")
        tiles = tiles or IntegerTiles()
        quantized = quantize_activations(
            x, tokens, planes=PLANES, group=group, spare_rows=tiles.rows
        )
        arguments = (isa, tiles, in_features, out_features, quantized, weight, scale, bias, out)
        if isa.multiplies_pairs and not isa.dots_bytes:
            pairs = pair_activations(quantized, tokens, in_features, spare=tiles.rows)
            Int4PairsLinear(*arguments, pairs).emit(tokens)
        else:
            Int4Linear(*arguments).emit(tokens)
    return builder.get()
