"""``y = x W + b`` over fp32, fp16 or bf16 weights packed in blocks of output channels, in pairs.

Layout of the packed weights, whatever the target: ``[blocks, ceil(in / 2), 64, 2]``, 64 consecutive
output channels a block, the last one filled up with zeros, and so is an odd `in`. One token
streams the weights front to back, whole cache lines at a time, and the two neighbours in `in` of a
channel stand side by side, as the dot-product instructions of bf16 take them.

One loop nest serves every number of tokens. The activations are copied once a call, rounded to
bf16 where the products are (`schedules.linear_tile`), into rows whose distance is no power of two,
or they would share a few sets of the cache. A task owns one block and one panel of tokens; it
goes over `in` a chunk at a time, and within a chunk over register tiles. Decoding is one tile that
reads each weight once from memory; in prefill the chunk stays in the second-level cache for all
tiles of the panel.

Every output is one sum over ascending `in` (fp32 products: one over the even, one over the odd),
whatever the tokens beside it: a token's result is bit-identical alone and in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.amx_nest import COLUMNS as AMX_COLUMNS
from schedules.amx_nest import ROWS as AMX_ROWS
from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.isa.amx import require_tiles
from schedules.linear_bf16_amx import emit_tiles
from schedules.linear_bf16_tile import DotTile, products_in
from schedules.linear_tile import BLOCK, STEP_VALUES, FmaTile, Rows, Steps, Tile
from schedules.parallel import for_each_where
from schedules.scratch import scratch
from schedules.sums import Sums
from schedules.tiles import AmxTiles, FloatTiles, float_tiles
from schedules.vector_math import widen

ROW_PADDING = 16
"""Pairs between rows of activations."""

PARALLEL_VALUES = 1 << 18
"""Activations from which copying them in parallel pays."""

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")


def packed_shape(out_features: int, in_features: int) -> tuple[int, int, int, int]:
    """Return the shape of the packed weights: ``(blocks, pairs, 64, 2)``."""
    return (-(-out_features // BLOCK), -(-in_features // 2), BLOCK, 2)


def pack_linear_weight(weight: np.ndarray, dtype: str) -> np.ndarray:
    """Pack ``weight [out, in]`` of any float dtype as ``[blocks, ceil(in / 2), 64, 2]`` in `dtype`.

    The memory needed beside the argument is that of the result. NumPy releases the lock, so
    threads may pack several tensors at once. A value beyond the range of fp16 becomes infinite:
    whoever chooses the dtype checks for it.

    Args:
        weight: ``[out, in]``: fp64, fp32, fp16 or bf16 (ml_dtypes); may be a view.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
    """
    out_features, in_features = weight.shape
    packed = np.empty(packed_shape(out_features, in_features), _numpy_dtype(dtype))
    # Rows a power of two apart would share a few sets of the cache: one line more a row makes
    # transposing five times as fast. Pairs as integers: they move as one, without NumPy's call a
    # value for bf16.
    pair = np.dtype(f"u{2 * packed.itemsize}")
    pairs = packed.shape[1]
    rows = np.zeros((BLOCK, 2 * pairs + 64 // packed.itemsize), packed.dtype)
    for block in range(len(packed)):
        channels = weight[block * BLOCK : (block + 1) * BLOCK]
        rows[: len(channels), :in_features] = channels
        rows[len(channels) :] = 0
        packed[block].view(pair)[..., 0] = rows.view(pair)[:, :pairs].T
    return packed


def unpack_linear_weight(packed: np.ndarray, out_features: int, in_features: int) -> np.ndarray:
    """Undo `pack_linear_weight`: ``[blocks, pairs, 64, 2]`` to ``[out, in]``, the dtype is kept."""
    blocks, pairs, _, _ = packed.shape
    channels = packed.transpose(0, 2, 1, 3).reshape(blocks * BLOCK, 2 * pairs)
    return channels[:out_features, :in_features]


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"weights are stored as one of {', '.join(WEIGHT_DTYPES)}, not {dtype}")
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@cache
def linear_kernel(
    in_features: int,
    out_features: int,
    weight_dtype: str,
    isa: Isa,
    *,
    bias_dtype: str | None,
    products: str = "bf16",
    tiles: FloatTiles | AmxTiles | None = None,
) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, in] fp32, weight [blocks, pairs, 64, 2], [bias [out]], out)``.

    Args:
        bias_dtype: dtype of the bias argument; None: there is no such argument.
        products: ``bf16``: over bf16 weights and where `isa` can, activations are rounded to bf16,
            and products are exact in fp32 sums; ``fp32``: nothing is rounded.
        tiles: see `schedules.tiles`; None: `float_tiles`.
    """
    tiles = tiles or float_tiles(weight_dtype, in_features, isa, products)
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("linear")
        T.func_attr({"tirx.noalias": True})
        x, weight = T.arg("x", T.handle()), T.arg("weight", T.handle())
        bias = T.arg("bias", T.handle()) if bias_dtype else None
        out = T.arg("out", T.handle())
        tokens = dimension("tokens")
        x = match_buffer(x, (tokens, in_features), "float32")
        weight = match_buffer(weight, packed_shape(out_features, in_features), weight_dtype)
        nest = _Linear(
            tiles=tiles,
            tile=_tile(weight, products, isa, tiles),
            x=x,
            bias=match_buffer(bias, (out_features,), bias_dtype) if bias_dtype else None,
            out=match_buffer(out, (tokens, out_features), "float32"),
        )
        with nest.tile.instructions():
            nest.emit(tokens)
    return builder.get()


def _tile(weight: Any, products: str, isa: Isa, tiles: FloatTiles | AmxTiles) -> Tile:
    tile = DotTile if products_in(str(weight.dtype), products, isa) == "bf16" else FmaTile
    if not isinstance(tiles, FloatTiles):
        return tile(isa, weight)
    return tile(isa, weight, tuple(size for size in tile.sizes if size <= tiles.rows))


@dataclass(frozen=True)
class _Linear:
    """Emits the loop nest of one kernel; the buffers are those of its arguments."""

    tiles: FloatTiles | AmxTiles
    tile: Tile
    x: Any
    bias: Any
    out: Any

    def emit(self, tokens: Any) -> None:
        """Emit the copy of the activations, then all tasks, in parallel where there is much."""
        blocks, pairs, _, _ = (int(dim) for dim in self.tile.weight.shape)
        products = 2 * pairs * blocks * BLOCK
        tiles, in_amx = self.tiles, isinstance(self.tiles, AmxTiles)
        # A tile may have more rows than there are tokens: what they hold does not matter.
        rows = tokens + (AMX_ROWS if in_amx else self.tile.sizes[-1])
        padded = -(-pairs // ROW_PADDING) * ROW_PADDING
        packed = scratch((rows, padded + ROW_PADDING), self.tile.pair_dtype)

        def pack(token: Any) -> None:
            self.tile.pack_row(packed, token, self.x)
            for pair in range(pairs, padded if in_amx else pairs):
                T.buffer_store(packed, T.int32(0), [token, pair])

        for_each_where(tokens * int(self.x.shape[1]) >= PARALLEL_VALUES, tokens, pack)
        least = tiles.parallel_products
        large = True if products >= least else tokens * products >= least
        if isinstance(tiles, AmxTiles):

            def finish(sums: Sums, part: Any, start: Any, count: Any) -> None:
                self._finish(sums, T.bind(part * AMX_COLUMNS), AMX_COLUMNS, start, count)

            require_tiles()
            emit_tiles(tiles, packed, self.tile.weight, tokens, large, finish)
            return
        tasks = blocks * T.ceildiv(tokens, tiles.task_rows)
        for_each_where(large, tasks, lambda task: self._task(tiles, packed, task, tokens))

    def _task(self, tiles: FloatTiles, packed: Any, task: Any, tokens: Any) -> None:
        """Emit one block of channels times one panel of tokens."""
        tile, lanes = self.tile, self.tile.isa.lanes
        panels = T.ceildiv(tokens, tiles.task_rows)
        block = T.bind(task // panels)
        start = T.bind(task % panels * tiles.task_rows)
        count = T.bind(T.min(tokens - start, tiles.task_rows))
        sums = scratch((tiles.task_rows, tile.width), "float32")
        with T.serial(0, count) as row, T.serial(0, tile.width // lanes) as vector:
            zero = T.broadcast(T.float32(0), lanes)
            T.buffer_store(sums, zero, [row, T.ramp(vector * lanes, 1, lanes)])
        pairs = int(tile.weight.shape[1])
        value_bytes = tirx.const(0, tile.weight.dtype).ty.dtype.bits // 8
        chunks = -(-pairs // (tiles.chunk_bytes // (STEP_VALUES * value_bytes)))
        most = -(-pairs // chunks)
        with T.serial(0, chunks) as chunk:
            first = T.bind(chunk * most)
            steps = Steps(block, first, T.bind(T.min(most, pairs - first)), most)
            self._chunk(sums, packed, start, count, steps)
        self._finish(sums, block * BLOCK, BLOCK, start, count)

    def _chunk(self, sums: Any, packed: Any, start: Any, count: Any, steps: Steps) -> None:
        """Emit the tiles of one chunk: full ones, and one of the next size for what remains."""
        sizes = self.tile.sizes
        full = sizes[-1]
        with T.serial(0, T.ceildiv(count, full)) as index:
            row = T.bind(index * full)
            left = T.bind(T.min(full, count - row))
            # The first tile asks for the next chunk; later full ones would ask again.
            later = T.bind(tirx.all(index > 0, left == full))
            smaller = 0
            for size in sizes:
                # Bound, or a pass of TVM solves the condition for each access below it.
                matches = T.bind(tirx.all(left > smaller, left <= size, tirx.Not(later)))
                rows = Rows(row, start + row, size)
                with T.If(matches), T.Then():
                    self.tile.multiply(sums, packed, rows, steps, ahead=True)
                smaller = size
            with T.If(later), T.Then():
                rows = Rows(row, start + row, full)
                self.tile.multiply(sums, packed, rows, steps, ahead=False)

    def _finish(self, sums: Any, first: Any, width: int, start: Any, count: Any) -> None:
        """Emit outputs, sums plus bias: `count` rows from `start`, `width` columns from `first`."""
        isa, out_features = self.tile.isa, int(self.out.shape[1])

        def finish(row: Any, channel: Any) -> None:
            value = self.tile.result(sums, row, channel)
            column = first + channel
            if self.bias is not None:
                value = value + widen(self.bias[column], isa)
            T.buffer_store(self.out, value, [start + row, column])

        with T.serial(0, count) as row:
            if out_features % BLOCK == 0:
                with T.serial(0, width // isa.lanes) as vector:
                    finish(row, T.ramp(vector * isa.lanes, 1, isa.lanes))
            else:
                # A part of the last block may lie beyond the end.
                with T.serial(0, T.max(0, T.min(width, out_features - first))) as channel:
                    finish(row, channel)
