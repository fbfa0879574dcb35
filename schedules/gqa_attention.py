"""Grouped-query attention over the paged KV cache: prefill, chunked prefill and decode in one.

The tokens of every sequence are cut into tiles; a tile and a KV head are one piece of work, which
`schedules.gqa_tile` computes. Pieces are dealt out to the threads in turn, so that the long rows
at a prompt's end spread over all of them.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.gqa_shape import tile_shape
from schedules.gqa_tile import TileArguments, emit_tile
from schedules.isa import Isa
from schedules.kv_cache import key_cache_shape, value_cache_shape
from schedules.registers import vector, zeros
from tvm_vacc.limits import PAGE_SIZE

PARALLEL_WORK = 1 << 20
"""Multiply-adds from which waking the other threads pays: 20 us of one core, a launch takes 7."""


def gqa_attention_kernel(
    heads: int, kv_heads: int, head_dim: int, cache_dtype: str, scale: float, isa: Isa
) -> tirx.PrimFunc:
    """Kernel ``(query, key_cache, value_cache, page_table, query_start, kv_lens, out)``.

    Shapes and the mask are those of ``relax.tvm_vacc.gqa_attention``; tokens, pages of the cache,
    rows and pages a row are symbolic. Tiles are cut for the registers of `isa`.

    Raises:
        ValueError: `head_dim` is no multiple of 16, or `heads` none of `kv_heads`.
    """
    if head_dim % PAGE_SIZE or heads % kv_heads:
        raise ValueError(
            f"gqa_attention: head_dim {head_dim} must be a multiple of {PAGE_SIZE} and "
            f"{heads} heads one of {kv_heads} KV heads"
        )
    shape = tile_shape(heads // kv_heads, head_dim, isa)

    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("gqa_attention")
        T.func_attr({"tirx.noalias": True})
        names = ("query", "key_cache", "value_cache", "page_table", "query_start", "kv_lens", "out")
        handles = [T.arg(name, T.handle()) for name in names]
        tokens, pages, rows, row_pages, bounds = (T.int64() for _ in range(5))
        key_shape = (pages, *key_cache_shape(1, kv_heads, head_dim)[1:])
        value_shape = (pages, *value_cache_shape(1, kv_heads, head_dim)[1:])
        query = T.match_buffer(handles[0], (tokens, heads, head_dim), "float32")
        key_cache = T.match_buffer(handles[1], key_shape, cache_dtype)
        value_cache = T.match_buffer(handles[2], value_shape, cache_dtype)
        page_table = T.match_buffer(handles[3], (rows, row_pages), "int32")
        query_start = T.match_buffer(handles[4], (bounds,), "int32")
        kv_lens = T.match_buffer(handles[5], (rows,), "int32")
        out = T.match_buffer(handles[6], (tokens, heads, head_dim), "float32")

        # The list of tiles: their sequence and first token; none is empty.
        tile_row = T.alloc_buffer((tokens,), "int32")
        tile_first = T.alloc_buffer((tokens,), "int32")
        tiles = T.alloc_buffer((1,), "int32")
        work = T.alloc_buffer((1,), "int64")
        T.buffer_store(tiles, T.int32(0), [0])
        T.buffer_store(work, T.int64(0), [0])
        with T.serial(0, rows) as row:
            count = T.bind(query_start[row + 1] - query_start[row])
            with T.serial(0, (count + shape.tokens - 1) // shape.tokens) as tile:
                T.buffer_store(tile_row, T.cast(row, "int32"), [tiles[0]])
                T.buffer_store(tile_first, query_start[row] + tile * shape.tokens, [tiles[0]])
                T.buffer_store(tiles, tiles[0] + 1, [0])
            pairs = T.cast(count, "int64") * T.cast(kv_lens[row], "int64")
            T.buffer_store(work, work[0] + pairs * (2 * heads * head_dim), [0])

        covered = T.bind(T.cast(query_start[rows], "int64"))
        with T.serial(covered, tokens) as token, T.serial(0, heads) as head:  # noqa: SIM117
            with T.serial(0, head_dim // PAGE_SIZE) as v:
                T.buffer_store(out, zeros(), [token, head, vector(v * PAGE_SIZE)])

        def emit_piece(piece: Any) -> None:
            tile = T.bind(piece // kv_heads)
            row = T.bind(tile_row[tile])
            args = TileArguments(
                query=query,
                key_cache=key_cache,
                value_cache=value_cache,
                page_table=page_table,
                out=out,
                row=row,
                head=T.bind(piece % kv_heads),
                first=T.bind(tile_first[tile]),
                end=T.bind(query_start[row + 1]),
                kv_len=T.bind(kv_lens[row]),
            )
            emit_tile(shape, args, scale)

        pieces = T.bind(tiles[0] * kv_heads)
        with T.If(work[0] >= PARALLEL_WORK):
            with (
                T.Then(),
                T.attr(0, "pragma_parallel_launch_point", True),
                T.attr(0, "pragma_parallel_stride_pattern", True),
                T.parallel(0, pieces) as piece,
            ):
                emit_piece(piece)
            with T.Else(), T.serial(0, pieces) as piece:
                emit_piece(piece)
    return builder.get()
