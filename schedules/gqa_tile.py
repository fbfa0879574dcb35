"""One piece of grouped-query attention: a few tokens, one KV head, some segments of the context.

The rows of a tile are the query heads of the KV head times the tokens. Online softmax (Milakov and
Gimelshein, 2018; FlashAttention-2, Dao, 2023) over blocks of pages: scores of a block, their
softmax against the running maximum, their weighted sum of values. Every segment of the context
starts anew; its sums are merged into those of the segments before it (Flash-Decoding, Dao et al.,
2023).

Segments and blocks start at fixed positions and every sum runs in the order of positions, whatever
the tile's size; positions a row does not see contribute exact zeros, or nothing. So a token's
result does not depend on the other tokens of its tile, on the batch, on how a prompt is cut into
chunks, or on how many pieces its context is divided into.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_arguments import TileArguments
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, BLOCK_PAGES, SEGMENT, TileShape
from schedules.gqa_sums import LOWEST, Sums
from schedules.hadamard import emit_hadamard, transform_size
from schedules.registers import reduce_lanes, register, splat, vector, zeros
from schedules.softmax_math import exp2
from tvm_vacc.limits import PAGE_SIZE


@dataclass(frozen=True)
class Tile:
    """Emits the computation of a tile on scratch buffers of its own.

    Rows are ``token * token_rows + head``; those beyond the last token repeat it, and those beyond
    the last head of the group repeat that: their sums are of no use.

    Attributes:
        last_token: the last of the tile.
        rows: of its tokens.
        row_tiles: register tiles that they take.
        query: rows of scaled queries, as the keys are transformed.
        scores: ``[rows, BLOCK]`` fp32.
        weights: rows of `BLOCK`, for products with values.
        rescale: ``[rows, 16]`` fp32: what a block's new maximum makes of older sums.
        segment: sums over the positions of the segment so far.
    """

    shape: TileShape
    args: TileArguments
    last_token: Any
    rows: Any
    row_tiles: Any
    query: LeftRows
    scores: tirx.Buffer
    weights: LeftRows
    rescale: tirx.Buffer
    segment: Sums

    @classmethod
    def allocate(cls, shape: TileShape, args: TileArguments) -> Tile:
        """Bind the tile's sizes and allocate its buffers."""
        last_token = T.bind(T.min(args.first + shape.tokens, args.end) - 1)
        rows = T.bind((last_token + 1 - args.first) * shape.token_rows)
        product = args.context.product
        return cls(
            shape=shape,
            args=args,
            last_token=last_token,
            rows=rows,
            row_tiles=T.bind((rows + shape.register_rows - 1) // shape.register_rows),
            query=product.left_rows(shape.rows, shape.head_dim, keys=True),
            scores=T.alloc_buffer((shape.rows, BLOCK), "float32"),
            weights=product.left_rows(shape.rows, BLOCK, keys=False),
            rescale=T.alloc_buffer((shape.rows, PAGE_SIZE), "float32"),
            segment=Sums.allocate(shape.rows, shape.head_dim),
        )

    def emit(self, scale: float, first: Any, last: Any, finish: Callable[[Any], None]) -> None:
        """Emit segments `first` up to `last`, and `finish` of the segment after each.

        `finish` takes the sums from `segment`; `scale` is the factor of the scores.
        """
        with T.serial(0, self._padded_rows) as row:
            self._load_query(row, scale)
        with T.serial(first, last) as segment:
            base = T.bind(segment * SEGMENT)
            with T.serial(0, self._padded_rows) as row:
                self.segment.clear(row)
            positions = T.bind(T.min(self.args.seen(self.last_token) - base, SEGMENT))
            with T.serial(0, _ceil_div(positions, BLOCK)) as block:
                self._block(T.bind(base + block * BLOCK))
            finish(segment)

    def _block(self, start: Any) -> None:
        """Add the positions from `start` on to the sums of the segment."""
        context, register_rows = self.args.context, self.shape.register_rows
        word_values = context.product.word_values
        first = T.bind(start // PAGE_SIZE)
        pages = T.bind(_ceil_div(self._limit(self.rows - 1, start), PAGE_SIZE))
        context.stage_block(context.key_cache, first, pages)
        steps = T.bind(_ceil_div(pages, self.shape.score_pages))
        with T.serial(0, steps) as step, T.serial(0, self.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            most = T.bind(self._limit(row0 + register_rows - 1, start))
            seen = T.bind(_ceil_div(most, PAGE_SIZE))
            with T.If(step * self.shape.score_pages < seen), T.Then():
                self._multiply_keys(row0, first, step, seen)
        context.stage_value_scales(first, pages, self._last_page)
        with T.serial(0, self._padded_rows) as row:
            self._softmax(row, T.bind(self._limit(row, start)))
        context.stage_block(context.value_cache, first, pages)
        steps = self.shape.head_dim // PAGE_SIZE // self.shape.value_vectors
        with T.serial(0, steps) as step, T.serial(0, self.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            if context.product.scaled:  # a code is a number, whose weight may be zero
                most = T.bind(self._limit(row0 + register_rows - 1, start))
                self._multiply_values(row0, first, step, T.bind(_ceil_div(most, word_values)))
            else:
                common = T.bind(self._limit(row0, start) // word_values)
                self._multiply_values(row0, first, step, common)
        if context.product.scaled:
            return
        with T.serial(0, self.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            common = T.bind(self._limit(row0, start) // word_values)
            most = T.bind(self._limit(row0 + register_rows - 1, start))
            with T.If(most > common * word_values), T.Then():
                self._multiply_last_values(row0, start, common)

    @property
    def _padded_rows(self) -> Any:
        return self.row_tiles * self.shape.register_rows

    @property
    def _last_page(self) -> Any:
        return (self.args.seen(self.last_token) - 1) // PAGE_SIZE

    def _token(self, row: Any) -> Any:
        return T.min(self.args.first + row // self.shape.token_rows, self.last_token)

    def _limit(self, row: Any, start: Any) -> Any:
        """Positions of the block at `start` that a row sees."""
        return T.max(0, T.min(self.args.seen(self._token(row)) - start, BLOCK))

    def _load_query(self, row: Any, scale: float) -> None:
        """Store a row of the query for the products, scaled for an exponential of base 2."""
        token = T.bind(T.cast(self._token(row), "int64"))
        in_group = T.min(row % self.shape.token_rows, self.shape.group - 1)
        head = T.bind(self.args.context.head * self.shape.group + in_group)
        product, head_dim = self.args.context.product, self.shape.head_dim
        factor = scale * math.log2(math.e) / (transform_size(head_dim) if product.scaled else 1)
        values = [
            register(self.args.query[token, head, vector(d)] * splat(T.float32(factor)))
            for d in range(0, head_dim, PAGE_SIZE)
        ]
        if product.scaled:
            emit_hadamard(values)
        product.store_left(self.query, row, values)

    def _multiply_keys(self, row0: Any, first: Any, step: Any, pages: Any) -> None:
        """Scores of `register_rows` rows against `pages` pages from `first` on; lane = position.

        Pages beyond the last are read as the last again, and masked by `_softmax`.
        """
        shape, context, product = self.shape, self.args.context, self.args.context.product
        # The register tiles of a token share the prefetching of pages.
        shared = max(1, shape.score_pages * shape.register_rows // shape.token_rows)
        shared = min(shared, shape.score_pages)
        ahead = T.bind(row0 // shape.register_rows * shared % shape.score_pages)
        last = T.bind(self._last_page)
        first_score = step * shape.score_pages

        def index(j: Any, step_page: Any = first_score) -> Any:
            return T.bind(first + T.min(step_page + j, pages - 1))

        indices = [index(j) for j in range(shape.score_pages)]
        prefetched = [index((ahead + i) % shape.score_pages) for i in range(shared)]
        sums = product.sums(shape.register_rows, shape.score_pages)
        product.clear(sums, self.query, row0)
        with T.serial(0, shape.head_dim // product.word_values) as word:
            for page in prefetched:
                context.prefetch(page, last, word)
            keys = [context.key_words(page, word) for page in indices]
            product.multiply_add(sums, self.query, row0, word, keys)
        scales = [register(context.key_scales(page)) for page in indices] if product.scaled else []
        for first_row, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                for j in range(shape.score_pages):
                    row = row0 + first_row + r
                    score = product.result(bank, r, j, self.query, row)
                    if scales:
                        score = score * scales[j][vector(0)]
                    place = [row, vector((first_score + j) * PAGE_SIZE)]
                    T.buffer_store(self.scores, score, place)

    def _softmax(self, row: Any, limit: Any) -> None:
        """Turn a row's scores, of which it sees `limit`, into weights against the new maximum."""
        product = self.args.context.product
        lowest, scores = splat(T.float32(LOWEST)), []
        for j in range(BLOCK_PAGES):
            lanes = vector(j * PAGE_SIZE)
            seen = T.Select(lanes < splat(limit), self.scores[row, lanes], lowest)
            scores.append(register(seen))
        best = register(scores[0][vector(0)])
        for score in scores[1:]:
            T.buffer_store(best, T.max(best[vector(0)], score[vector(0)]), [vector(0)])
        best = reduce_lanes(best[vector(0)], T.max)
        sums = self.segment
        before = register(sums.buffer[row, sums.highest])
        highest = register(T.max(before[vector(0)], best[vector(0)]))
        T.buffer_store(sums.buffer, highest[vector(0)], [row, sums.highest])
        rescale = register(exp2(before[vector(0)] - highest[vector(0)]))
        T.buffer_store(self.rescale, rescale[vector(0)], [row, vector(0)])
        weights = [register(exp2(score[vector(0)] - highest[vector(0)])) for score in scores]
        stored = weights
        value_scales = self.args.context.value_scales
        if value_scales is not None:
            stored = []
            for j, weight in enumerate(weights):
                lanes = vector(j * PAGE_SIZE)
                weighted = weight[vector(0)] * value_scales[lanes]
                stored.append(register(T.Select(lanes < splat(limit), weighted, zeros())))
        product.store_left(self.weights, row, stored)
        total = register(sums.buffer[row, sums.total] * rescale[vector(0)])
        product.add_weights(total, weights, self.weights, row)
        T.buffer_store(sums.buffer, total[vector(0)], [row, sums.total])

    def _multiply_values(self, row0: Any, first: Any, step: Any, words: Any) -> None:
        """Add values times weights to the output of `register_rows` rows, for the first `words`
        from page `first` on: all of these rows see all of these positions.
        """
        shape, context, output = self.shape, self.args.context, self.segment.buffer
        product, page_words = context.product, context.product.page_words
        width = shape.value_vectors * PAGE_SIZE
        chunks = [step * width + j * PAGE_SIZE for j in range(shape.value_vectors)]
        sums = product.sums(shape.register_rows, shape.value_vectors)

        def old(row: Any, chunk: Any) -> tirx.Expr:
            return output[row, vector(chunk)] * self.rescale[row, vector(0)]

        separate = product.accumulators > 1
        if separate:
            product.clear(sums, self.weights, row0)
        else:
            for first_row, bank in sums.banks:
                with T.unroll(0, sums.bank_rows) as r:
                    for j, chunk in enumerate(chunks):
                        T.buffer_store(bank, old(row0 + first_row + r, chunk), [r, j, vector(0)])
        with T.serial(0, _ceil_div(words, page_words)) as p:
            whole = page_words if product.scaled else T.min(words - p * page_words, page_words)
            with T.serial(0, whole) as line:
                values = [context.value_words(first + p, line, chunk) for chunk in chunks]
                product.multiply_add(sums, self.weights, row0, p * page_words + line, values)
        for first_row, bank in sums.banks:
            with T.unroll(0, sums.bank_rows) as r:
                row = row0 + first_row + r
                for j, chunk in enumerate(chunks):
                    total = product.result(bank, r, j, self.weights, row)
                    if separate:
                        total = total + old(row, chunk)
                    T.buffer_store(output, total, [row, vector(chunk)])

    def _multiply_last_values(self, row0: Any, start: Any, common: Any) -> None:
        """The same for what is left after `common` words, each row as far as it sees.

        No row reads a value that it does not see: it may be NaN, or another sequence's.
        """
        context, output = self.args.context, self.segment.buffer
        product = context.product
        page_words = product.page_words
        with T.serial(row0, row0 + self.shape.register_rows) as row:
            limit = T.bind(self._limit(row, start))
            with T.serial(0, T.max(0, _ceil_div(limit, product.word_values) - common)) as i:
                word = T.bind(common + i)
                page, line = start // PAGE_SIZE + word // page_words, word % page_words
                with T.serial(0, self.shape.head_dim // PAGE_SIZE) as v:
                    lanes = vector(v * PAGE_SIZE)
                    values = context.value_words(page, line, v * PAGE_SIZE)
                    values = product.first_of(values, limit - word * product.word_values)
                    sums = product.sums(1, 1)
                    [(_, bank)] = sums.banks
                    T.buffer_store(bank, output[row, lanes], [0, 0, vector(0)])
                    product.multiply_add(sums, self.weights, row, word, [values])
                    T.buffer_store(output, bank[0, 0, vector(0)], [row, lanes])


def _ceil_div(number: Any, divisor: int) -> Any:
    return (number + divisor - 1) // divisor
