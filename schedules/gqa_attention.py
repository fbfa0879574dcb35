"""Grouped-query attention over the paged KV cache: prefill, chunked prefill and decode in one.

The tokens of every sequence are cut into tiles, which `schedules.gqa_tile` computes for one KV head
at a time. Pieces of this work are dealt out to the threads in turn, so that the long rows at a
prompt's end spread over all of them. Where few tokens have a long context, as in decode, it is
divided into segments, whose partial sums a second step merges (Flash-Decoding, Dao et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.gqa_amx import AmxTile
from schedules.gqa_amx_digits import DigitAmxTile
from schedules.gqa_amx_floats import FloatAmxTile
from schedules.gqa_arguments import TileArguments
from schedules.gqa_context import Context
from schedules.gqa_digits import DigitProduct
from schedules.gqa_floats import FloatProduct
from schedules.gqa_pieces import MAX_PARTIAL_ROWS, Pieces
from schedules.gqa_product import Product
from schedules.gqa_shape import (
    BLOCK,
    BLOCK_PAGES,
    AmxAttentionTiles,
    AttentionTiles,
    TileShape,
    VectorAttentionTiles,
    amx_shape,
    tile_shape,
)
from schedules.gqa_sums import Sums
from schedules.gqa_tile import Tile
from schedules.gqa_vectors import VectorTile
from schedules.isa import Isa, amx
from schedules.kv_cache import key_cache_shape, value_cache_shape
from schedules.opaque import opaque
from schedules.registers import vector, zeros
from tvm_vacc.limits import PAGE_SIZE


def attention_product(cache_dtype: str, head_dim: int, isa: Isa) -> Product:
    """Return what the kernel multiplies: digits of int8 where `isa` has them, or else floats."""
    if DigitProduct.suits(cache_dtype, head_dim, isa):
        return DigitProduct(cache_dtype, isa)
    return FloatProduct(cache_dtype, isa)


def default_tiles(group: int, head_dim: int, product: Product) -> AttentionTiles:
    """Return what the kernel chooses where nothing was tuned, for `group` heads a KV head."""
    in_amx = issubclass(_tile_class(product, group, head_dim), AmxTile)
    return AmxAttentionTiles() if in_amx else VectorAttentionTiles()


@cache
def gqa_attention_kernel(
    heads: int,
    kv_heads: int,
    head_dim: int,
    cache_dtype: str,
    scale: float,
    isa: Isa,
    tiles: AttentionTiles | None = None,
) -> tirx.PrimFunc:
    """Kernel ``(query, key_cache, value_cache, page_table, query_start, kv_lens, out)``.

    Shapes and the mask are those of ``relax.tvm_vacc.gqa_attention``; tokens, pages of the cache,
    rows and pages a row are symbolic. Tiles are cut for the registers of `isa`; `tiles` is of the
    kind that `default_tiles` returns, None for these.

    Raises:
        ValueError: `head_dim` is no multiple of 16, or `heads` none of `kv_heads`.
    """
    if head_dim % PAGE_SIZE or heads % kv_heads:
        raise ValueError(
            f"gqa_attention: head_dim {head_dim} must be a multiple of {PAGE_SIZE} and "
            f"{heads} heads one of {kv_heads} KV heads"
        )
    product = attention_product(cache_dtype, head_dim, isa)
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("gqa_attention")
        T.func_attr({"tirx.noalias": True})
        names = ("query", "key_cache", "value_cache", "page_table", "query_start", "kv_lens", "out")
        handles = [T.arg(name, T.handle()) for name in names]
        dims = ("tokens", "pages", "rows", "row_pages", "bounds")
        tokens, pages, rows, row_pages, bounds = map(dimension, dims)
        shapes_and_dtypes: list[tuple[tuple[Any, ...], str]] = [
            ((tokens, heads, head_dim), "float32"),
            (key_cache_shape(pages, kv_heads, head_dim, cache_dtype), cache_dtype),
            (value_cache_shape(pages, kv_heads, head_dim, cache_dtype), cache_dtype),
            ((rows, row_pages), "int32"),
            ((bounds,), "int32"),
            ((rows,), "int32"),
            ((tokens, heads, head_dim), "float32"),
        ]
        buffers = [
            match_buffer(handle, shape, dtype)
            for handle, (shape, dtype) in zip(handles, shapes_and_dtypes, strict=True)
        ]
        group = heads // kv_heads
        tile = _tile_class(product, group, head_dim)
        choices = tiles or default_tiles(group, head_dim, product)
        if issubclass(tile, AmxTile):
            shape = amx_shape(group, head_dim, tile.planes, choices)
            amx.require_tiles()
        else:
            assert isinstance(choices, VectorAttentionTiles)
            shape = tile_shape(group, head_dim, isa, product.accumulators, choices)
        with product.instructions():
            _Attention(shape, choices, kv_heads, product, tile, scale, *buffers).emit()
    return builder.get()


def _tile_class(product: Product, group: int, head_dim: int) -> type[Tile]:
    """Return how tiles are computed: by AMX where there are enough rows a token."""
    for tile in (FloatAmxTile, DigitAmxTile):
        if product.isa.tiles and tile.suits(product, group, head_dim):
            return tile
    return VectorTile


@dataclass(frozen=True)
class _Attention:
    """Emits the body of one kernel; the buffers are those of its arguments."""

    shape: TileShape
    choices: AttentionTiles
    kv_heads: int
    product: Product
    tile: type[Tile]
    scale: float
    query: tirx.Buffer
    key_cache: tirx.Buffer
    value_cache: tirx.Buffer
    page_table: tirx.Buffer
    query_start: tirx.Buffer
    kv_lens: tirx.Buffer
    out: tirx.Buffer

    def emit(self) -> None:
        """Emit all pieces, in parallel where the work is worth the launch, and what merges them."""
        self._clear_uncovered_tokens()
        tokens = self.query.shape[0]
        pieces = Pieces.of(
            self.shape, self.choices, self.kv_heads, tokens, self.query_start, self.kv_lens
        )
        partial = Sums.allocate(MAX_PARTIAL_ROWS, self.shape.head_dim)
        count = T.bind(pieces.count)
        with T.If(pieces.parallel):
            with T.Then():
                with (
                    T.attr(0, "pragma_parallel_launch_point", True),
                    T.attr(0, "pragma_parallel_stride_pattern", True),
                    T.parallel(0, count) as index,
                ):
                    self._piece(pieces, index, partial)
                with T.If(pieces.divided), T.Then():  # noqa: SIM117
                    with T.parallel(0, pieces.tiles * (self.kv_heads * self.shape.rows)) as index:
                        self._merge(pieces, index, partial)
            with T.Else(), T.serial(0, count) as index:
                self._piece(pieces, index, partial)

    def _clear_uncovered_tokens(self) -> None:
        tokens, heads, head_dim = self.query.shape
        covered = T.bind(T.cast(self.query_start[self.kv_lens.shape[0]], "int64"))
        with T.serial(covered, tokens) as token, T.serial(0, heads) as head:  # noqa: SIM117
            with T.serial(0, int(head_dim) // PAGE_SIZE) as v:
                T.buffer_store(self.out, zeros(), [token, head, vector(v * PAGE_SIZE)])

    def _piece(self, pieces: Pieces, index: Any, partial: Sums) -> None:
        """Compute one piece: results, or partial sums where the context is divided."""
        piece = pieces.piece(index)
        args = self._tile_arguments(pieces, piece.tile, piece.head)
        tile = self.tile.allocate(self.shape, args)
        whole = Sums.allocate(self.shape.rows, self.shape.head_dim)
        # The sums of one segment alone are the result, or the partial sums, as they are.
        undivided = tirx.Not(pieces.divided)
        alone = T.bind(tirx.all(undivided, piece.last - piece.first == 1))
        several = T.bind(tirx.all(undivided, piece.last - piece.first != 1))
        with T.If(several), T.Then(), T.serial(0, tile.size.rows) as row:
            whole.clear(row)

        def finish(_segment: Any) -> None:
            with T.If(several), T.Then(), T.serial(0, tile.size.rows) as row:
                whole.merge(row, tile.segment, row)

        tile.emit(self.scale, piece.first, piece.last, finish)
        with T.serial(0, tile.size.rows) as row:
            with T.If(pieces.divided), T.Then():
                place = self._partial_row(piece.segment, piece.head, row)
                partial.copy(place, tile.segment, row)
            with T.If(alone), T.Then():
                self._store(args.first, piece.head, tile.segment, row, row)
            with T.If(several), T.Then():
                self._store(args.first, piece.head, whole, row, row)

    def _merge(self, pieces: Pieces, index: Any, partial: Sums) -> None:
        """Merge the partial sums of one row of one tile and KV head, in ascending order."""
        row = T.bind(index % self.shape.rows)
        head = T.bind(index // self.shape.rows % self.kv_heads)
        tile = T.bind(index // self.shape.rows // self.kv_heads)
        first = T.bind(pieces.token[tile])
        end = self.query_start[pieces.row[tile] + 1]
        tokens = T.bind(T.min(end - first, self.shape.tokens))
        with T.If(row < tokens * self.shape.token_rows), T.Then():
            sums = Sums.allocate(1, self.shape.head_dim)
            sums.clear(0)
            with T.serial(pieces.start[tile], pieces.start[tile + 1]) as segment:
                sums.merge(0, partial, T.bind(self._partial_row(segment, head, row)))
            self._store(first, head, sums, 0, row)

    def _partial_row(self, segment: Any, head: Any, row: Any) -> Any:
        """The place of partial sums; `segment` counts those of all tiles."""
        return (segment * self.kv_heads + head) * self.shape.rows + row

    def _store(self, first: Any, head: Any, sums: Sums, sums_row: Any, row: Any) -> None:
        """Write the result of a row of the tile at token `first`, unless it only fills it up."""
        in_group = T.bind(row % self.shape.token_rows)
        with T.If(in_group < self.shape.group), T.Then():
            token = T.bind(T.cast(first + row // self.shape.token_rows, "int64"))
            sums.store(sums_row, self.out, token, head * self.shape.group + in_group)

    def _tile_arguments(self, pieces: Pieces, tile: Any, head: Any) -> TileArguments:
        row = opaque(pieces.row[tile])
        page_words = self.shape.head_dim * self.product.page_words
        stage = T.alloc_buffer((BLOCK_PAGES, page_words), "int32") if self.product.staged else None
        scales = T.alloc_buffer((BLOCK,), "float32") if self.product.scaled else None
        return TileArguments(
            query=self.query,
            context=Context(
                product=self.product,
                key_cache=self.key_cache,
                value_cache=self.value_cache,
                page_table=self.page_table,
                row=row,
                head=head,
                stage=stage,
                value_scales=scales,
            ),
            first=opaque(pieces.token[tile]),
            end=opaque(self.query_start[row + 1]),
            kv_len=opaque(self.kv_lens[row]),
        )
