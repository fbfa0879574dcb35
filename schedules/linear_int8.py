"""``y = x W + b`` over int8 weights with one scale an output channel.

Layout of the packed weights: ``[blocks, ceil(in / 4), 128]`` uint8, a block of 32 consecutive
output channels, each with four consecutive values of `in`, stored as ``weight + 128``; zeros fill
up both dimensions. So one token streams the weights front to back.

Activations are integers too (`schedules.quantize_activations`): one byte a value for w8a8, two for
w8a16, which are two rows of bytes to the same loop nest. Every product and sum is exact in int32,
one fp32 multiplication by both scales ends it: a token's result is bit-identical alone and in any
batch. Against bf16 activations and ``vdpbf16ps`` two byte rows cost the same (half the rate of
bytes each), are more accurate, and need no conversion of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.integer_linear import (
    BLOCK,
    BYTES_A_STEP,
    IntegerLinear,
    Rows,
    Steps,
)
from schedules.isa import Isa
from schedules.isa.amx import require_tiles
from schedules.isa.vnni import dot_bytes
from schedules.lanes import like, spread
from schedules.linear_int8_amx import emit_tiles, spare_rows
from schedules.quantize_activations import quantize_activations
from schedules.scratch import scratch
from schedules.sums import Sums
from schedules.tiles import ByteTiles, IntegerTiles, int8_tiles

STEP = BYTES_A_STEP // BLOCK
"""Values of `in` a step: those of one dot product."""

LARGEST_IN = 1 << 16
"""255 * 128 * 2**16 is the largest sum that int32 holds."""

OFFSET = 128
"""What is added to a weight to make it unsigned."""

PACKED_DTYPE = "uint8"

PLANES = {"int8": 1, "float": 2}
"""Byte rows a token by kind of activation."""


def packed_shape(out_features: int, in_features: int) -> tuple[int, int, int]:
    """Return the shape of the packed weights: ``(blocks, ceil(in / 4), 128)``, uint8."""
    return (-(-out_features // BLOCK), -(-in_features // STEP), BYTES_A_STEP)


def pack_linear_int8(weight_OI: np.ndarray) -> np.ndarray:
    """Pack ``weight [out, in]`` int8 as ``[blocks, ceil(in / 4), 128]`` uint8.

    About 3 GB/s on one core; the memory needed beside the argument is that of the result.
    """
    out_features, in_features = weight_OI.shape
    packed = np.empty(packed_shape(out_features, in_features), PACKED_DTYPE)
    steps = packed.shape[1]
    # Rows a power of two apart would share a few sets of the cache: one line more a row.
    rows = np.zeros((BLOCK, steps * STEP + 64), np.int8)
    for block in range(len(packed)):
        channels = weight_OI[block * BLOCK : (block + 1) * BLOCK]
        rows[: len(channels), :in_features] = channels
        rows[len(channels) :] = 0
        words = packed[block].view(np.uint32)
        words[:] = rows[:, : steps * STEP].view(np.uint32).T
        words ^= np.uint32(0x80808080)
    return packed


def unpack_linear_int8(packed: np.ndarray, out_features: int, in_features: int) -> np.ndarray:
    """Undo `pack_linear_int8`: ``[blocks, steps, 128]`` uint8 to ``[out, in]`` int8."""
    blocks, steps, _ = packed.shape
    signed = (packed ^ OFFSET).view(np.int8).reshape(blocks, steps, BLOCK, STEP)
    rows = signed.transpose(0, 2, 1, 3).reshape(blocks * BLOCK, steps * STEP)
    return rows[:out_features, :in_features]


@cache
def linear_int8_kernel(
    in_features: int,
    out_features: int,
    isa: Isa,
    *,
    activations: str,
    bias_dtype: str | None,
    tiles: IntegerTiles | None = None,
) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, in] fp32, weight, scale [out] fp32, [bias [out]], out [tokens, out])``.

    Args:
        activations: ``int8`` (w8a8: 127 levels a token) or ``float`` (w8a16: 32639 levels).
        bias_dtype: dtype of the bias argument; None: there is no such argument.
        tiles: see `schedules.tiles`; None: `int8_tiles`.

    Raises:
        ValueError: `activations` is neither, or `in_features` could overflow int32.
    """
    if activations not in PLANES:
        raise ValueError(f"activations are one of {', '.join(PLANES)}, not {activations}")
    if in_features > LARGEST_IN:
        raise ValueError(f"in_features is {in_features}, int32 sums hold up to {LARGEST_IN}")
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear_int8")
        T.func_attr({"tirx.noalias": True})
        names = ("x", "weight", "scale", *(("bias",) if bias_dtype else ()), "out")
        handles = {name: T.arg(name, T.handle()) for name in names}
        tokens = dimension("tokens")
        x = match_buffer(handles["x"], (tokens, in_features), "float32")
        shape = packed_shape(out_features, in_features)
        weight = match_buffer(handles["weight"], shape, PACKED_DTYPE)
        scale = match_buffer(handles["scale"], (out_features,), "float32")
        bias = match_buffer(handles["bias"], (out_features,), bias_dtype) if bias_dtype else None
        out = match_buffer(handles["out"], (tokens, out_features), "float32")
        planes, tiles = PLANES[activations], tiles or int8_tiles(in_features, isa)
        quantized = quantize_activations(
            x, tokens, planes=planes, group=in_features, spare_rows=spare_rows(tiles)
        )
        linear = Int8Linear(
            isa, tiles, in_features, out_features, quantized, weight, scale, bias, out
        )
        linear.emit(tokens)
    return builder.get()


@dataclass(frozen=True)
class Int8Linear(IntegerLinear):
    """Int32 sums over all of `in`, one row of them a row of activations.

    Attributes:
        zero_point: of the activations as they are multiplied, int32; None: zero.
        weight_sums: ``[out]`` int32, the sum of each channel's codes, where there is a zero point.
    """

    zero_point: Any = None
    weight_sums: Any = None

    def emit(self, tokens: Any) -> None:
        """Emit all tasks: in AMX tiles where the target has them and there are rows for it."""
        if not isinstance(self.tiles, ByteTiles):
            super().emit(tokens)
            return
        require_tiles()
        with T.If(T.bind(tokens * self.x.planes >= self.tiles.fewest_rows)):
            with T.Then():
                emit_tiles(self, self.tiles, tokens)
            with T.Else():
                super().emit(tokens)

    @property
    def steps_a_unit(self) -> int:
        """One: a chunk may end anywhere."""
        return 1

    def allocate_sums(self) -> Any:
        """Allocate a row of int32 sums a row of activations."""
        return scratch((self.tiles.task_rows, BLOCK), "int32")

    def multiply(self, sums: Sums, rows: Rows, steps: Steps, channel: Any, vectors: int) -> None:
        """Emit the products of one tile, four values of `in` a step."""
        lanes = self.isa.lanes
        every, quads = T.ramp(0, 1, lanes), T.ramp(0, 1, STEP * lanes)
        start = rows.start + rows.first
        # One buffer a register: as one large buffer, LLVM keeps them in memory.
        totals = [
            [T.alloc_buffer((lanes,), "int32") for _ in range(vectors)] for _ in range(rows.count)
        ]
        places = [
            [(rows.first + r, T.ramp(channel + v * lanes, 1, lanes)) for v in range(vectors)]
            for r in range(rows.count)
        ]
        weights = [T.alloc_buffer((STEP * lanes,), PACKED_DTYPE) for _ in range(vectors)]
        for totals_row, places_row in zip(totals, places, strict=True):
            for total, place in zip(totals_row, places_row, strict=True):
                T.buffer_store(total, sums[place], [every])
        with T.serial(0, steps.length) as k:
            step = T.bind(steps.first + k)
            self.prefetch(rows, steps.block, step)
            for v, weight in enumerate(weights):
                at = T.ramp((channel + v * lanes) * STEP, 1, STEP * lanes)
                stored = self.weight[steps.block, step, at]
                if self.isa.signed_weights:
                    stored = stored ^ tirx.const(OFFSET, stored.ty)
                T.buffer_store(weight, stored, [quads])
            for r, totals_row in enumerate(totals):
                word = T.bind(self.x.word(start + r, step))
                for total, weight in zip(totals_row, weights, strict=True):
                    product = dot_bytes(total[every], weight[quads], word, self.isa)
                    T.buffer_store(total, product, [every])
        for totals_row, places_row in zip(totals, places, strict=True):
            for total, place in zip(totals_row, places_row, strict=True):
                sums.store(total[every], place)

    def finished(self, sums: Sums, token: Any, first: Any, channel: Any, column: Any) -> Any:
        """Return the sums less what offset and zero point add to them, times both scales."""
        value = None
        for plane in range(self.x.planes):
            row = token * self.x.planes + plane
            total = sums[row, channel]
            exact = total
            if not self.isa.signed_weights:
                offset = self.x.sums[first * self.x.planes + row, 0] * OFFSET
                exact = total - spread(offset, total)
            if self.zero_point is not None:
                exact = exact - spread(self.zero_point, total) * self.weight_sums[column]
            part = exact.astype(like(total, "float32"))
            value = part if value is None else value * tirx.const(256, part.ty) + part
        return value * self.scale[column] * spread(self.x.scales[first + token], value)
