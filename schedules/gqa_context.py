"""The keys and values of one sequence and KV head, as a tile of attention goes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_product import Product
from schedules.gqa_shape import BLOCK_PAGES
from schedules.prefetch import prefetch
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
    """

    product: Product
    key_cache: tirx.Buffer
    value_cache: tirx.Buffer
    page_table: tirx.Buffer
    row: Any
    head: Any
    stage: tirx.Buffer | None

    def words(self, cache: tirx.Buffer, index: Any, line: Any, word: Any) -> tirx.Expr:
        """Sixteen words, from `word` of a `line` on, of the sequence's page `index`."""
        if self.stage is None:
            return self.product.load_words(cache, [self._page(index), self.head, line], word)
        return self.stage[index % BLOCK_PAGES, self._stage_lanes(cache, line, word)]

    def stage_block(self, cache: tirx.Buffer, first: Any, pages: Any) -> None:
        """Convert the block of `pages` pages from `first` on, once for all rows of a tile."""
        if self.stage is None:
            return
        lines, width = int(cache.shape[-2]), int(cache.shape[-1]) // self.product.word_values
        with T.serial(0, pages) as p:
            page = T.bind(self._page(first + p))
            with T.serial(0, lines) as line, T.serial(0, width // PAGE_SIZE) as v:
                word = v * PAGE_SIZE
                words = self.product.load_words(cache, [page, self.head, line], word)
                T.buffer_store(self.stage, words, [p, self._stage_lanes(cache, line, word)])

    def prefetch(self, index: Any, last: Any, word: Any) -> None:
        """Ask for the `word`-th cache line of the values of page `index`, soon needed, and of the
        keys of the page one block on, or of the `last` page.
        """
        values = PAGE_SIZE * self.product.word_values
        vectors = int(self.value_cache.shape[-1]) // values
        page, following = self._page(index), self._page(T.min(index + BLOCK_PAGES, last))
        value = self.value_cache[page, self.head, word // vectors, word % vectors * values]
        for line in (value, self.key_cache[following, self.head, word, 0]):
            prefetch(line, locality=2)

    def _page(self, index: Any) -> Any:
        # A large cache passes 2^31 elements.
        return T.cast(self.page_table[self.row, index], "int64")

    def _stage_lanes(self, cache: tirx.Buffer, line: Any, word: Any) -> Any:
        width = int(cache.shape[-1]) // self.product.word_values
        return T.ramp(line * width + word, 1, PAGE_SIZE)
