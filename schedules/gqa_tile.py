"""One tile of grouped-query attention: a few tokens of one sequence and one KV head.

The rows of a tile are the query heads of the KV head times the tokens. Online softmax (Milakov and
Gimelshein, 2018; FlashAttention-2, Dao, 2023) over blocks of four pages: scores of a block, their
softmax against the running maximum, their weighted sum of values.

Blocks start at position 0 and every sum runs in the order of positions, whatever the tile's size:
positions a row does not see contribute exact zeros. So a token's result does not depend on the
other tokens of its tile, on the batch or on how a prompt is cut into chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_shape import BLOCK, BLOCK_PAGES, TileShape
from schedules.registers import Accumulators, reduce_lanes, register, splat, vector, zeros
from schedules.vector_math import exp, widen
from tvm_vacc.limits import PAGE_SIZE

LOWEST = -3.0e38
"""The running maximum before the first position; finite, so that differences stay numbers."""


@dataclass(frozen=True)
class TileArguments:
    """The buffers of the kernel and the place of one tile in them.

    Attributes:
        query: ``[tokens, heads, head_dim]`` fp32; `out` likewise.
        key_cache: ``[pages, kv_heads, head_dim, 16]``.
        value_cache: ``[pages, kv_heads, 16, head_dim]``.
        page_table: ``[rows, pages a row]`` int32.
        row: the sequence.
        head: the KV head.
        first: first token of the tile, int32; tokens from `end` on are another row's.
        end: end of the row's tokens.
        kv_len: positions of the row.
    """

    query: tirx.Buffer
    key_cache: tirx.Buffer
    value_cache: tirx.Buffer
    page_table: tirx.Buffer
    out: tirx.Buffer
    row: tirx.Expr
    head: tirx.Expr
    first: tirx.Expr
    end: tirx.Expr
    kv_len: tirx.Expr


def emit_tile(shape: TileShape, args: TileArguments, scale: float) -> None:
    """Emit the statements that compute one tile into ``args.out``."""
    scratch = _Scratch.allocate(shape)
    last_token = T.bind(T.min(args.first + shape.tokens, args.end) - 1)
    rows = T.bind((last_token + 1 - args.first) * shape.group)
    row_tiles = T.bind((rows + shape.register_rows - 1) // shape.register_rows)
    seen = T.bind(_seen(args, last_token))
    with T.serial(0, row_tiles * shape.register_rows) as row:
        token = T.bind(T.min(args.first + row // shape.group, last_token))
        _load_query(shape, args, scratch, row, token, scale)
    with T.serial(0, T.max(0, (seen + BLOCK - 1) // BLOCK)) as block:
        positions = T.bind(T.min(seen - block * BLOCK, BLOCK))
        with T.serial(0, row_tiles) as row_tile:
            row0 = T.bind(row_tile * shape.register_rows)
            _scores(shape, args, scratch, row0, block, positions)
            with T.serial(0, shape.register_rows) as r:
                row = T.bind(row0 + r)
                token = T.min(args.first + row // shape.group, last_token)
                _softmax(scratch, row, block, _seen(args, token))
            _weighted_values(shape, args, scratch, row0, block, positions)
    with T.serial(0, rows) as row:
        _store(shape, args, scratch, row)


@dataclass(frozen=True)
class _Scratch:
    query: tirx.Buffer  # [rows, head_dim], scaled
    scores: tirx.Buffer  # [rows, BLOCK]
    output: tirx.Buffer  # [rows, head_dim], not yet divided by the total
    total: tirx.Buffer  # [rows, 16], partial sums of the weights
    highest: tirx.Buffer  # [rows], running maximum
    rescale: tirx.Buffer  # [rows], what the block's new maximum makes of older sums

    @classmethod
    def allocate(cls, shape: TileShape) -> _Scratch:
        sizes = (shape.head_dim, BLOCK, shape.head_dim, PAGE_SIZE)
        wide = [T.alloc_buffer((shape.rows, size), "float32") for size in sizes]
        narrow = [T.alloc_buffer((shape.rows,), "float32") for _ in range(2)]
        return cls(*wide, *narrow)


def _seen(args: TileArguments, token: tirx.Expr) -> tirx.Expr:
    """Positions that `token` sees: all up to its own."""
    return args.kv_len - args.end + token + 1


def _load_query(
    shape: TileShape,
    args: TileArguments,
    scratch: _Scratch,
    row: tirx.Expr,
    token: tirx.Expr,
    scale: float,
) -> None:
    """Copy a row of the query, scaled, and clear its sums.

    Rows beyond the tile's last token repeat it; their results are dropped.
    """
    head = T.bind(args.head * shape.group + row % shape.group)
    with T.serial(0, shape.head_dim // PAGE_SIZE) as v:
        lanes = vector(v * PAGE_SIZE)
        scaled = args.query[T.cast(token, "int64"), head, lanes] * splat(T.float32(scale))
        T.buffer_store(scratch.query, scaled, [row, lanes])
        T.buffer_store(scratch.output, zeros(), [row, lanes])
    T.buffer_store(scratch.total, zeros(), [row, vector(0)])
    T.buffer_store(scratch.highest, T.float32(LOWEST), [row])


def _scores(
    shape: TileShape,
    args: TileArguments,
    scratch: _Scratch,
    row0: tirx.Expr,
    block: tirx.Expr,
    positions: tirx.Expr,
) -> None:
    """Scores of `register_rows` rows against a block's pages; lane = position.

    Pages beyond the last are read as the last again, and masked by `_softmax`.
    """
    pages = T.bind((positions + PAGE_SIZE - 1) // PAGE_SIZE)
    with T.serial(0, (pages + shape.score_pages - 1) // shape.score_pages) as step:
        ids = []
        for j in range(shape.score_pages):
            index = block * BLOCK_PAGES + T.min(step * shape.score_pages + j, pages - 1)
            ids.append(T.bind(T.cast(args.page_table[args.row, index], "int64")))
        sums = Accumulators(shape.register_rows, len(ids))
        for _, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for j in range(len(ids)):
                    T.buffer_store(bank, zeros(), [r, j, vector(0)])
        with T.serial(0, shape.head_dim) as d:
            keys = [
                register(widen(args.key_cache[page, args.head, d, vector(0)], shape.isa))
                for page in ids
            ]
            for first, bank in sums.banks:
                with T.unroll(0, sums.bank_rows) as r:
                    q = T.bind(splat(scratch.query[row0 + first + r, d]))
                    for j, key in enumerate(keys):
                        sum_ = bank[r, j, vector(0)] + q * key[vector(0)]
                        T.buffer_store(bank, sum_, [r, j, vector(0)])
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for j in range(len(ids)):
                    lanes = vector((step * shape.score_pages + j) * PAGE_SIZE)
                    T.buffer_store(scratch.scores, bank[r, j, vector(0)], [row0 + first + r, lanes])


def _softmax(scratch: _Scratch, row: tirx.Expr, block: tirx.Expr, seen: tirx.Expr) -> None:
    """Turn a row's scores of one block into weights against the new running maximum."""
    limit = T.bind(seen - block * BLOCK)

    def masked(j: tirx.Expr, inside: tirx.Expr, outside: tirx.Expr) -> tirx.Expr:
        return T.Select(vector(j * PAGE_SIZE) < splat(limit), inside, outside)

    best = register(splat(T.float32(LOWEST)))
    with T.unroll(0, BLOCK_PAGES) as j:
        score = masked(j, scratch.scores[row, vector(j * PAGE_SIZE)], splat(T.float32(LOWEST)))
        T.buffer_store(best, T.max(best[vector(0)], score), [vector(0)])
    before = T.bind(scratch.highest[row])
    highest = T.bind(T.max(before, reduce_lanes(best, T.max)))
    T.buffer_store(scratch.highest, highest, [row])
    T.buffer_store(scratch.rescale, exp(before - highest), [row])
    total = register(scratch.total[row, vector(0)] * splat(scratch.rescale[row]))
    with T.unroll(0, BLOCK_PAGES) as j:
        lanes = vector(j * PAGE_SIZE)
        weight = masked(j, exp(scratch.scores[row, lanes] - splat(highest)), zeros())
        T.buffer_store(scratch.scores, weight, [row, lanes])
        T.buffer_store(total, total[vector(0)] + scratch.scores[row, lanes], [vector(0)])
    T.buffer_store(scratch.total, total[vector(0)], [row, vector(0)])


def _weighted_values(
    shape: TileShape,
    args: TileArguments,
    scratch: _Scratch,
    row0: tirx.Expr,
    block: tirx.Expr,
    positions: tirx.Expr,
) -> None:
    """Add a block's values times the weights to the output of `register_rows` rows.

    Only positions that the tile sees are read: what lies behind them in the last page may be NaN.
    """
    width = shape.value_vectors * PAGE_SIZE
    with T.serial(0, shape.head_dim // width) as step:
        chunks = [vector(step * width + j * PAGE_SIZE) for j in range(shape.value_vectors)]
        sums = Accumulators(shape.register_rows, shape.value_vectors)
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                rescale = T.bind(splat(scratch.rescale[row0 + first + r]))
                for j, lanes in enumerate(chunks):
                    old = scratch.output[row0 + first + r, lanes]
                    T.buffer_store(bank, old * rescale, [r, j, vector(0)])
        with T.serial(0, (positions + PAGE_SIZE - 1) // PAGE_SIZE) as p:
            page = T.bind(T.cast(args.page_table[args.row, block * BLOCK_PAGES + p], "int64"))
            with T.serial(0, T.min(positions - p * PAGE_SIZE, PAGE_SIZE)) as t:
                values = [
                    register(widen(args.value_cache[page, args.head, t, lanes], shape.isa))
                    for lanes in chunks
                ]
                for first, bank in sums.banks:
                    with T.unroll(0, sums.bank_rows) as r:
                        weight = T.bind(splat(scratch.scores[row0 + first + r, p * PAGE_SIZE + t]))
                        for j, value in enumerate(values):
                            total = bank[r, j, vector(0)] + weight * value[vector(0)]
                            T.buffer_store(bank, total, [r, j, vector(0)])
        for first, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for j, lanes in enumerate(chunks):
                    T.buffer_store(scratch.output, bank[r, j, vector(0)], [row0 + first + r, lanes])


def _store(shape: TileShape, args: TileArguments, scratch: _Scratch, row: tirx.Expr) -> None:
    """Divide a row by its total weight and write it; 0 where nothing is seen."""
    token = T.bind(T.cast(args.first + row // shape.group, "int64"))
    head = T.bind(args.head * shape.group + row % shape.group)
    total = T.bind(reduce_lanes(register(scratch.total[row, vector(0)]), lambda a, b: a + b))
    factor = T.bind(T.Select(total > T.float32(0), T.float32(1) / total, T.float32(0)))
    with T.serial(0, shape.head_dim // PAGE_SIZE) as v:
        lanes = vector(v * PAGE_SIZE)
        T.buffer_store(args.out, scratch.output[row, lanes] * splat(factor), [token, head, lanes])
