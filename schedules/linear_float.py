"""``y = x W + b`` in fp32 over fp32, fp16 or bf16 weights packed in blocks of output channels.

Layout of the packed weights: ``[blocks, in, 64]``, 64 consecutive output channels a block, the
last one filled up with zeros. So one token streams the weights front to back, whole cache lines at
a time, and a block of a register tile's width is contiguous in `in`.

One loop nest serves every number of tokens. A task owns one block and one panel of tokens; it goes
over `in` a chunk at a time, and within a chunk over tiles of up to `TILE_TOKENS` tokens: a tile
keeps one accumulator a token and vector of channels in registers, so the weights are read and
widened once a tile. Decoding is one partly filled tile that reads each weight once from memory; in
prefill the chunk (64 channels x 512) stays in the second-level cache for all tiles of the panel.

Every output is summed in the same order whatever the tokens beside it: `in` ascending within a
chunk, then the chunks ascending. A token's result is bit-identical alone and in any batch.

The dot-product instructions of bf16 (``vdpbf16ps``, ``bfdot``) take pairs of `in`: they want a
layout ``[blocks, in / 2, 64, 2]``, rounded activations, and another `_tile`; the rest of this file
serves them as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.vector_math import widen

BLOCK = 64
"""Output channels a block: four AVX-512 registers, one cache line of fp8 up to four of fp32."""

TILE_TOKENS = 6
"""Tokens a register tile: 6 x 64 channels are 24 of AVX-512's 32 registers, 4 hold weights."""

CHUNK = 512
"""Values of `in` a chunk: 64 x 512 weights are 64 KiB in 16 bits, 128 KiB in fp32."""

PANEL_TOKENS = 16 * TILE_TOKENS
"""Tokens a task: enough tiles to pay for reading a chunk, and work for many cores."""

PARALLEL_PRODUCTS = 1 << 18
"""Multiplications from which a parallel launch (3.5 to 7 us) pays."""

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


def packed_shape(out_features: int, in_features: int) -> tuple[int, int, int]:
    """Return the shape of the packed weights: ``(blocks, in, 64)``."""
    return (-(-out_features // BLOCK), in_features, BLOCK)


def pack_linear_weight(weight: np.ndarray, dtype: str) -> np.ndarray:
    """Pack ``weight [out, in]`` of any float dtype as ``[blocks, in, 64]`` in `dtype`.

    The memory needed beside the argument is that of the result; 3 to 4 GB/s on one core where
    the dtype stays. NumPy releases the lock, so threads may pack several tensors at once. A value
    beyond the range of fp16 becomes infinite: whoever chooses the dtype checks for it.

    Args:
        weight: ``[out, in]``: fp64, fp32, fp16 or bf16 (ml_dtypes); may be a view.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
    """
    out_features, in_features = weight.shape
    packed = np.empty(packed_shape(out_features, in_features), _numpy_dtype(dtype))
    # Rows a power of two apart would share a few sets of the cache: one line more a row makes
    # transposing five times as fast. As integers, because NumPy copies bf16 by a call a value.
    bits = np.dtype(f"u{packed.itemsize}")
    rows = np.zeros((BLOCK, in_features + 64 // packed.itemsize), packed.dtype)
    for block in range(len(packed)):
        channels = weight[block * BLOCK : (block + 1) * BLOCK]
        rows[: len(channels), :in_features] = channels
        rows[len(channels) :] = 0
        packed[block].view(bits)[:] = rows[:, :in_features].view(bits).T
    return packed


def unpack_linear_weight(packed: np.ndarray, out_features: int) -> np.ndarray:
    """Undo `pack_linear_weight`: ``[blocks, in, 64]`` to ``[out, in]``, the dtype is kept."""
    blocks, in_features, _ = packed.shape
    return packed.transpose(0, 2, 1).reshape(blocks * BLOCK, in_features)[:out_features]


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"weights are stored as one of {', '.join(WEIGHT_DTYPES)}, not {dtype}")
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def linear_kernel(
    in_features: int, out_features: int, weight_dtype: str, isa: Isa, *, bias_dtype: str | None
) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, in] fp32, weight [blocks, in, 64], [bias [out]], out [tokens, out])``.

    Args:
        bias_dtype: dtype of the bias argument; None: there is no such argument.
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear")
        T.func_attr({"tirx.noalias": True})
        x, weight = T.arg("x", T.handle()), T.arg("weight", T.handle())
        bias = T.arg("bias", T.handle()) if bias_dtype else None
        out = T.arg("out", T.handle())
        tokens = T.int64()
        nest = _Linear(
            isa=isa,
            out_features=out_features,
            x=T.match_buffer(x, (tokens, in_features), "float32"),
            weight=T.match_buffer(weight, packed_shape(out_features, in_features), weight_dtype),
            bias=T.match_buffer(bias, (out_features,), bias_dtype) if bias_dtype else None,
            out=T.match_buffer(out, (tokens, out_features), "float32"),
        )
        nest.emit(tokens)
    return builder.get()


@dataclass(frozen=True)
class _Linear:
    """Emits the loop nest of one kernel; the buffers are those of its arguments."""

    isa: Isa
    out_features: int
    x: Any
    weight: Any
    bias: Any
    out: Any

    def emit(self, tokens: Any) -> None:
        """Emit all tasks, in parallel where the work is worth the launch."""
        blocks, in_features, _ = (int(dim) for dim in self.weight.shape)
        panels = T.ceildiv(tokens, PANEL_TOKENS)
        products = in_features * self.out_features
        if products >= PARALLEL_PRODUCTS:
            with T.parallel(0, blocks * panels) as task:
                self._task(task, panels, tokens)
            return
        with T.If(tokens * products >= PARALLEL_PRODUCTS):
            with T.Then(), T.parallel(0, blocks * panels) as task:
                self._task(task, panels, tokens)
            with T.Else(), T.serial(0, blocks * panels) as task:
                self._task(task, panels, tokens)

    def _task(self, task: Any, panels: Any, tokens: Any) -> None:
        """Emit one block of channels times one panel of tokens."""
        in_features = int(self.weight.shape[1])
        block = T.bind(task // panels)
        start = T.bind(task % panels * PANEL_TOKENS)
        count = T.bind(T.min(tokens - start, PANEL_TOKENS))
        tile_sums = T.alloc_buffer((TILE_TOKENS, BLOCK), "float32")
        with T.serial(0, -(-in_features // CHUNK)) as chunk:
            first = T.bind(chunk * CHUNK)
            length = T.bind(T.min(CHUNK, in_features - first))
            with T.serial(0, T.ceildiv(count, TILE_TOKENS)) as tile:
                token = T.bind(start + tile * TILE_TOKENS)
                size = T.bind(T.min(TILE_TOKENS, start + count - token))
                for number in range(1, TILE_TOKENS + 1):
                    # Bound, or a pass of TVM solves the condition for each access below it.
                    matches = T.bind(size == number)
                    with T.If(matches), T.Then():
                        self._multiply(tile_sums, block, first, length, token, number)
                self._add(tile_sums, block, first, token, size)

    def _multiply(
        self, tile_sums: Any, block: Any, first: Any, length: Any, token: Any, tokens: int
    ) -> None:
        """Emit ``tile_sums = x W`` for `tokens` tokens, one block and one chunk of `in`."""
        lanes = self.isa.lanes
        vectors = BLOCK // lanes
        while vectors * tokens > self.isa.registers * 3 // 4:
            vectors //= 2
        every = T.ramp(0, 1, lanes)

        def register() -> Any:
            # One buffer a register: as one large buffer, LLVM keeps them in memory.
            return T.alloc_buffer((lanes,), "float32")

        with T.serial(0, BLOCK // (vectors * lanes)) as group:
            channel = group * (vectors * lanes)
            sums = [[register() for _ in range(vectors)] for _ in range(tokens)]
            weights = [register() for _ in range(vectors)]
            for row in sums:
                for total in row:
                    T.buffer_store(total, T.broadcast(T.float32(0), lanes), [every])
            with T.serial(0, length) as k:
                for v, weight in enumerate(weights):
                    stored = self.weight[block, first + k, T.ramp(channel + v * lanes, 1, lanes)]
                    T.buffer_store(weight, widen(stored, self.isa), [every])
                for t, row in enumerate(sums):
                    x = T.bind(T.broadcast(self.x[token + t, first + k], lanes))
                    for total, weight in zip(row, weights, strict=True):
                        T.buffer_store(total, total[every] + x * weight[every], [every])
            for t, row in enumerate(sums):
                for v, total in enumerate(row):
                    T.buffer_store(
                        tile_sums, total[every], [t, T.ramp(channel + v * lanes, 1, lanes)]
                    )

    def _add(self, tile_sums: Any, block: Any, first: Any, token: Any, tokens: Any) -> None:
        """Emit ``out += tile_sums``; `out` starts as the bias, or as nothing."""

        def update(t: Any, channel: Any) -> None:
            column = block * BLOCK + channel
            value = tile_sums[t, channel]
            start = value if self.bias is None else value + widen(self.bias[column], self.isa)
            with T.If(first == 0):
                with T.Then():
                    T.buffer_store(self.out, start, [token + t, column])
                with T.Else():
                    T.buffer_store(
                        self.out, self.out[token + t, column] + value, [token + t, column]
                    )

        with T.serial(0, tokens) as t:
            if self.out_features % BLOCK == 0:
                with T.serial(0, BLOCK // self.isa.lanes) as vector:
                    update(t, T.ramp(vector * self.isa.lanes, 1, self.isa.lanes))
            else:
                with T.serial(0, T.min(BLOCK, self.out_features - block * BLOCK)) as channel:
                    update(t, channel)
