"""The list of tiles of an attention call, and how it is divided into pieces for the threads.

A tile and a KV head are one piece, or, where there are few of those, a tile, a KV head and one
segment of the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_shape import SEGMENT, AttentionTiles, TileShape
from schedules.opaque import opaque

MAX_PARTIAL_ROWS = 1 << 16
"""Rows of partial sums a call may have: 40 MB at head_dim 128 if they are all touched. Beyond, no
context is divided."""


@dataclass(frozen=True)
class Piece:
    """One piece of work.

    Attributes:
        tile: its index.
        head: KV head.
        first: first segment of the tile's context, `last` the one behind the last.
        segment: index of `first` among the segments of all tiles.
    """

    tile: Any
    head: Any
    first: Any
    last: Any
    segment: Any


@dataclass(frozen=True)
class Pieces:
    """The list of tiles, none of them empty, in buffers of the kernel.

    Attributes:
        kv_heads: of the cache.
        row: ``[tiles]`` int32: the sequence of each tile.
        token: ``[tiles]`` int32: the first token.
        start: ``[tiles + 1]`` int32: segments of all tiles before it.
        tiles: their number.
        parallel: whether the work is worth the other threads.
        divided: whether a piece is one segment of its tile.
    """

    kv_heads: int
    row: tirx.Buffer
    token: tirx.Buffer
    start: tirx.Buffer
    tiles: Any
    parallel: Any
    divided: Any

    @classmethod
    def of(
        cls,
        shape: TileShape,
        choices: AttentionTiles,
        kv_heads: int,
        tokens: Any,
        query_start: tirx.Buffer,
        kv_lens: tirx.Buffer,
    ) -> Pieces:
        """Emit the listing of at most `tokens` tiles; the buffers are the kernel's arguments."""
        tile_row = T.alloc_buffer((tokens,), "int32")
        tile_token = T.alloc_buffer((tokens,), "int32")
        start = T.alloc_buffer((tokens + 1,), "int32")
        count = T.alloc_buffer((1,), "int32")
        work = T.alloc_buffer((1,), "int64")
        T.buffer_store(start, T.int32(0), [0])
        T.buffer_store(count, T.int32(0), [0])
        T.buffer_store(work, T.int64(0), [0])
        with T.serial(0, kv_lens.shape[0]) as row:
            new = T.bind(query_start[row + 1] - query_start[row])
            with T.serial(0, (new + shape.tokens - 1) // shape.tokens) as tile:
                first = T.bind(tile * shape.tokens)
                seen = T.bind(kv_lens[row] - new + T.min(new, first + shape.tokens))
                segments = T.bind((T.max(seen, 0) + SEGMENT - 1) // SEGMENT)
                T.buffer_store(tile_row, T.cast(row, "int32"), [count[0]])
                T.buffer_store(tile_token, query_start[row] + first, [count[0]])
                T.buffer_store(start, start[count[0]] + segments, [count[0] + 1])
                T.buffer_store(count, count[0] + 1, [0])
            pairs = T.cast(new, "int64") * T.cast(kv_lens[row], "int64")
            products = 2 * kv_heads * shape.group * shape.head_dim
            T.buffer_store(work, work[0] + pairs * products, [0])
        tiles = T.bind(count[0])
        parallel = T.bind(work[0] >= choices.parallel_products)
        divided = T.bind(
            tirx.all(
                parallel,
                start[tiles] > tiles,
                tiles * kv_heads < choices.few_pieces,
                start[tiles] * (kv_heads * shape.rows) <= MAX_PARTIAL_ROWS,
            )
        )
        return cls(kv_heads, tile_row, tile_token, start, tiles, parallel, divided)

    @property
    def count(self) -> Any:
        """Number of pieces."""
        return T.Select(self.divided, self.start[self.tiles], self.tiles) * self.kv_heads

    def piece(self, index: Any) -> Piece:
        """Emit the look-up of one piece."""
        entry = T.bind(index // self.kv_heads)
        found = T.alloc_buffer((1,), "int32")
        T.buffer_store(found, entry, [0])
        with T.If(self.divided), T.Then():
            T.buffer_store(found, T.int32(-1), [0])
            with T.serial(0, self.tiles) as tile:
                passed = T.cast(self.start[tile] <= entry, "int32")
                T.buffer_store(found, found[0] + passed, [0])
        tile = T.bind(found[0])
        start, end = opaque(self.start[tile]), opaque(self.start[tile + 1])
        first = opaque(T.Select(self.divided, entry - start, 0))
        return Piece(
            tile=tile,
            head=opaque(index % self.kv_heads),
            first=first,
            last=opaque(T.Select(self.divided, first + 1, end - start)),
            segment=opaque(start + first),
        )
