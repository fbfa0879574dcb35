"""The keys and values of one sequence and KV head, as a tile of attention goes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_product import Product
from schedules.gqa_shape import BLOCK_PAGES
from schedules.kv_cache import LINE_BYTES
from schedules.prefetch import prefetch
from schedules.registers import vector
from tvm_vacc.limits import PAGE_SIZE


@dataclass(frozen=True)
class Context:
    """Pages of the caches, found by the page table; a block of them may be staged.

    Attributes:
        product: what words are multiplied by.
        key_cache: in the layout of `schedules.kv_cache`; `value_cache` likewise.
        page_table: ``[rows, pages a row]`` int32.
        row: the sequence.
        head: the KV head.
        stage: ``[BLOCK_PAGES, words of a page]`` int32, where the product is staged.
        value_scales: ``[BLOCK]`` fp32, those of a block, where the caches hold codes.
    """

    product: Product
    key_cache: tirx.Buffer
    value_cache: tirx.Buffer
    page_table: tirx.Buffer
    row: Any
    head: Any
    stage: tirx.Buffer | None
    value_scales: tirx.Buffer | None

    def key_words(self, index: Any, word: Any) -> tirx.Expr:
        """The `word`-th word of the sixteen keys of the sequence's page `index`."""
        return self._words(self.key_cache, index, word, 0)

    def value_words(self, index: Any, word: Any, dim: Any) -> tirx.Expr:
        """Sixteen dimensions, from `dim` on, of the `word`-th positions of the page `index`."""
        return self._words(self.value_cache, index, *self._value_place(word, dim))

    def load_values(self, page: Any, word: Any, dim: Any) -> tirx.Expr:
        """The same of a `page` of the cache, whether or not they are staged."""
        line, first = self._value_place(word, dim)
        return self.product.load_words(self.value_cache, [page, self.head, line], first)

    def _value_place(self, word: Any, dim: Any) -> tuple[Any, Any]:
        """The line of a page of values, and the word of that line."""
        if self.product.scaled:  # whose rows of words are cut into lines of sixteen
            lines = (int(self.value_cache.shape[-2]) - 1) // self.product.page_words
            return word * lines + dim // PAGE_SIZE, 0
        return word, dim

    def key_scales(self, index: Any) -> tirx.Expr:
        """The scales of the sixteen keys of the sequence's page `index`."""
        return self.product.load_scales(self.key_cache, [self.page(index), self.head])

    def stage_value_scales(self, first: Any, pages: Any, last: Any) -> None:
        """Keep the scales of the values of `pages` pages from `first` on, for all rows.

        Those of the pages one block on, or of the `last` one, are asked for: a line a page that
        `prefetch` leaves out.
        """
        if self.value_scales is None:
            return
        with T.serial(0, pages) as p:
            place = [T.bind(self.page(first + p)), self.head]
            scales = self.product.load_scales(self.value_cache, place)
            T.buffer_store(self.value_scales, scales, [vector(p * PAGE_SIZE)])
            following = T.bind(self.page(T.min(first + p + BLOCK_PAGES, last)))
            for cache in (self.key_cache, self.value_cache):
                prefetch(cache[following, self.head, int(cache.shape[-2]) - 1, 0], locality=2)

    def _words(self, cache: tirx.Buffer, index: Any, line: Any, word: Any) -> tirx.Expr:
        if self.stage is None:
            return self.product.load_words(cache, [self.page(index), self.head, line], word)
        return self.stage[index % BLOCK_PAGES, self._stage_lanes(cache, line, word)]

    def stage_block(self, cache: tirx.Buffer, first: Any, pages: Any) -> None:
        """Convert the block of `pages` pages from `first` on, once for all rows of a tile."""
        if self.stage is None:
            return
        lines, width = int(cache.shape[-2]), int(cache.shape[-1]) // self.product.word_values
        with T.serial(0, pages) as p:
            page = T.bind(self.page(first + p))
            with T.serial(0, lines) as line, T.serial(0, width // PAGE_SIZE) as v:
                word = v * PAGE_SIZE
                words = self.product.load_words(cache, [page, self.head, line], word)
                T.buffer_store(self.stage, words, [p, self._stage_lanes(cache, line, word)])

    def prefetch(self, index: Any, last: Any, line: Any) -> None:
        """Ask for the `line`-th cache line of the values of page `index`, soon needed, and of the
        keys of the page one block on, or of the `last` page.
        """
        page, following = self.page(index), self.page(T.min(index + BLOCK_PAGES, last))
        values = PAGE_SIZE * self.product.word_values
        vectors = int(self.value_cache.shape[-1]) // values
        value = self.value_cache[page, self.head, line // vectors, line % vectors * values]
        for element in (value, self.key_cache[following, self.head, line, 0]):
            prefetch(element, locality=2)

    def prefetch_lines(self, cache: tirx.Buffer, first: Any, line: Any, count: int) -> None:
        """Ask for `count` cache lines of the pages from `first` on, without scales, from `line` on.

        A page of keys or of values has as many: a line holds sixteen words.
        """
        width = PAGE_SIZE * self.product.word_values
        vectors = int(cache.shape[-1]) // width
        page_lines = int(cache.shape[-2]) * vectors - (1 if self.product.scaled else 0)
        with T.serial(0, count) as i:
            at = T.bind(line + i)
            page, within = T.bind(self.page(first + at // page_lines)), T.bind(at % page_lines)
            place = (page, self.head, within // vectors, within % vectors * width)
            prefetch(cache[place], locality=2)

    def prefetch_pages(self, first: Any, pages: Any) -> None:
        """Ask for all of `pages` pages of keys and of values from `first` on, scales included."""
        value_bytes = 4 // self.product.word_values
        with T.serial(0, pages) as p:
            page = T.bind(self.page(first + p))
            for cache in (self.key_cache, self.value_cache):
                lines = int(cache.shape[2]) * int(cache.shape[3]) * value_bytes // LINE_BYTES
                shape = (*cache.shape[:2], lines, LINE_BYTES)
                in_lines = T.decl_buffer(shape, "uint8", data=cache.data)
                with T.serial(0, lines) as line:
                    prefetch(in_lines[page, self.head, line, 0], locality=2)

    def page(self, index: Any) -> Any:
        """The page of the cache that is the sequence's page `index`."""
        # A large cache passes 2^31 elements.
        return T.cast(self.page_table[self.row, index], "int64")

    def _stage_lanes(self, cache: tirx.Buffer, line: Any, word: Any) -> Any:
        width = int(cache.shape[-1]) // self.product.word_values
        return T.ramp(line * width + word, 1, PAGE_SIZE)
