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

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.integer_linear import (
    BLOCK,
    BYTES_A_STEP,
    PANEL_ROWS,
    TILE_ROWS,
    IntegerLinear,
    Rows,
    Steps,
)
from schedules.isa import Isa
from schedules.isa.vnni import dot_bytes
from schedules.lanes import spread
from schedules.quantize_activations import quantize_activations
from schedules.scratch import scratch
from schedules.vector_math import widen

GROUPS = (32, 64, 128)
"""Values of `in` that may share a scale."""

STEP = 8
"""Values of `in` a step: those of two dot products."""

OFFSET = 8
"""What is added to a weight to make it unsigned."""

PLANES = 2

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
    in_features: int, out_features: int, group: int, isa: Isa, *, bias_dtype: str | None
) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, in] fp32, weight, scale, [bias [out]], out [tokens, out] fp32)``.

    Args:
        bias_dtype: dtype of the bias argument; None: there is no such argument.

    Raises:
        ValueError: `group` is not 32, 64 or 128, or does not divide `in_features`.
    """
    weight_shape, scale_shape = packed_shapes(out_features, in_features, group)
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear_int4")
        T.func_attr({"tirx.noalias": True})
        names = ("x", "weight", "scale", *(("bias",) if bias_dtype else ()), "out")
        handles = {name: T.arg(name, T.handle()) for name in names}
        tokens = T.int64()
        x = T.match_buffer(handles["x"], (tokens, in_features), "float32")
        weight = T.match_buffer(handles["weight"], weight_shape, PACKED_DTYPE)
        scale = T.match_buffer(handles["scale"], scale_shape, SCALE_DTYPE)
        bias = T.match_buffer(handles["bias"], (out_features,), bias_dtype) if bias_dtype else None
        out = T.match_buffer(handles["out"], (tokens, out_features), "float32")
        quantized = quantize_activations(
            x, tokens, planes=PLANES, group=group, spare_rows=TILE_ROWS
        )
        nest = _Int4Linear(isa, in_features, out_features, quantized, weight, scale, bias, out)
        nest.emit(tokens)
    return builder.get()


@dataclass(frozen=True)
class _Int4Linear(IntegerLinear):
    """Int32 sums over a group, fp32 sums over the groups: one row of them a token."""

    @property
    def steps_a_unit(self) -> int:
        return self.x.group // STEP

    def allocate_sums(self) -> Any:
        return scratch((PANEL_ROWS // PLANES, BLOCK), "float32")

    def multiply(self, sums: Any, rows: Rows, steps: Steps, channel: Any, vectors: int) -> None:
        steps_a_group = self.x.group // STEP
        with T.serial(0, steps.length // steps_a_group) as index:
            group = T.bind(steps.first // steps_a_group + index)
            self._group(sums, rows, steps.block, group, channel, vectors)

    def _group(
        self, sums: Any, rows: Rows, block: Any, group: Any, channel: Any, vectors: int
    ) -> None:
        """Emit ``sums += scale * (x W)`` over one group."""
        lanes = self.isa.lanes
        every, quads = T.ramp(0, 1, lanes), T.ramp(0, 1, 4 * lanes)
        tokens = rows.count // PLANES
        start = rows.start + rows.first
        totals = [
            [T.alloc_buffer((lanes,), "int32") for _ in range(vectors)] for _ in range(rows.count)
        ]
        for t in range(tokens):
            first, second = totals[PLANES * t : PLANES * (t + 1)]
            row = start + PLANES * t
            offset = T.bind((self.x.sums[row, group] * 256 + self.x.sums[row + 1, group]) * -OFFSET)
            for v in range(vectors):
                T.buffer_store(first[v], T.broadcast(T.int32(0), lanes), [every])
                T.buffer_store(second[v], T.broadcast(offset, lanes), [every])
        low, high = (
            [T.alloc_buffer((4 * lanes,), PACKED_DTYPE) for _ in range(vectors)] for _ in range(2)
        )
        with T.serial(0, self.x.group // STEP) as k:
            step = T.bind(group * (self.x.group // STEP) + k)
            self.prefetch(block, step)
            for v in range(vectors):
                stored = self.weight[block, step, T.ramp((channel + v * lanes) * 4, 1, 4 * lanes)]
                T.buffer_store(low[v], stored & tirx.const(15, stored.ty), [quads])
                T.buffer_store(high[v], stored >> tirx.const(4, stored.ty), [quads])
            for r, totals_row in enumerate(totals):
                words = [T.bind(self.x.word(start + r, step * 2 + half)) for half in range(2)]
                for v, total in enumerate(totals_row):
                    product = dot_bytes(total[every], low[v][quads], words[0], self.isa)
                    product = dot_bytes(product, high[v][quads], words[1], self.isa)
                    T.buffer_store(total, product, [every])
        scale = T.alloc_buffer((lanes,), "float32")
        for v in range(vectors):
            at = T.ramp(channel + v * lanes, 1, lanes)
            T.buffer_store(scale, widen(self.scale[block, group, at], self.isa), [every])
            for t in range(tokens):
                first, second = totals[PLANES * t][v][every], totals[PLANES * t + 1][v][every]
                value = ((first << tirx.const(8, first.ty)) + second).astype(f"float32x{lanes}")
                place = (rows.first // PLANES + t, at)
                T.buffer_store(sums, sums[place] + value * scale[every], place)

    def finished(self, sums: Any, token: Any, first: Any, channel: Any, column: Any) -> Any:
        value = sums[token, channel]
        return value * spread(self.x.scales[first + token], value)
