"""A tile of attention in vector registers: a few rows by a few vectors of sums at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_arguments import TileArguments
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, BLOCK_PAGES, TileShape
from schedules.gqa_sums import LOWEST, Sums
from schedules.gqa_tile import Tile, TileSize, ceil_div
from schedules.registers import reduce_registers, register, splat, vector, zeros
from schedules.softmax_math import exp2
from tvm_vacc.limits import PAGE_SIZE


@dataclass(frozen=True)
class VectorTile(Tile):
    """See `Tile`.

    Attributes:
        scores: ``[rows, BLOCK]`` fp32.
        weights: rows of `BLOCK`, for products with values.
        rescale: ``[rows, 16]`` fp32: what a block's new maximum makes of older sums.
    """

    scores: tirx.Buffer
    weights: LeftRows
    rescale: tirx.Buffer

    @classmethod
    def allocate(cls, shape: TileShape, args: TileArguments) -> VectorTile:
        """See `Tile`."""
        product = args.context.product
        return cls(
            shape=shape,
            args=args,
            size=TileSize.of(shape, args),
            query=product.left_rows(shape.rows, shape.head_dim, keys=True),
            segment=Sums.allocate(shape.rows, shape.head_dim),
            scores=T.alloc_buffer((shape.rows, BLOCK), "float32"),
            weights=product.left_rows(shape.rows, BLOCK, keys=False),
            rescale=T.alloc_buffer((shape.rows, PAGE_SIZE), "float32"),
        )

    def _block(self, start: Any) -> None:
        """Add the positions from `start` on to the sums of the segment."""
        context, register_rows = self.args.context, self.shape.register_rows
        word_values = context.product.word_values
        first = T.bind(start // PAGE_SIZE)
        pages = T.bind(ceil_div(self._limit(self.size.rows - 1, start), PAGE_SIZE))
        context.stage_block(context.key_cache, first, pages)
        steps = T.bind(ceil_div(pages, self.shape.score_pages))
        with T.serial(0, steps) as step, T.serial(0, self.size.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            most = T.bind(self._limit(row0 + register_rows - 1, start))
            seen = T.bind(ceil_div(most, PAGE_SIZE))
            with T.If(step * self.shape.score_pages < seen), T.Then():
                self._multiply_keys(row0, first, step, seen)
        context.stage_value_scales(first, pages, self._last_page)
        with T.serial(0, self._padded_rows) as row:
            self._softmax(row, T.bind(self._limit(row, start)))
        context.stage_block(context.value_cache, first, pages)
        steps = self.shape.head_dim // PAGE_SIZE // self.shape.value_vectors
        with T.serial(0, steps) as step, T.serial(0, self.size.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            if context.product.scaled:  # a code is a number, whose weight may be zero
                most = T.bind(self._limit(row0 + register_rows - 1, start))
                self._multiply_values(row0, first, step, T.bind(ceil_div(most, word_values)))
            else:
                common = T.bind(self._limit(row0, start) // word_values)
                self._multiply_values(row0, first, step, common)
        if context.product.scaled:
            return
        with T.serial(0, self.size.row_tiles) as row_tile:
            row0 = T.bind(row_tile * register_rows)
            common = T.bind(self._limit(row0, start) // word_values)
            most = T.bind(self._limit(row0 + register_rows - 1, start))
            with T.If(most > common * word_values), T.Then():
                self._multiply_last_values(row0, start, common)

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
        best = reduce_registers(scores, T.max)
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
        with T.serial(0, ceil_div(words, page_words)) as p:
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
            with T.serial(0, T.max(0, ceil_div(limit, product.word_values) - common)) as i:
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
