"""A block of values as AMX tiles: copied, as pages of the cache do not fill them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_context import Context
from schedules.gqa_product import Product
from schedules.gqa_shape import BLOCK
from schedules.gqa_tile import ceil_div
from schedules.isa import amx
from schedules.registers import LANES, splat, vector
from schedules.scratch import scratch

TILE_WORDS = amx.STEPS * amx.COLUMNS
"""Words of a tile of B."""


@dataclass(frozen=True)
class StagedValues:
    """The values of a block.

    Attributes:
        product: what they are multiplied by.
        head_dim: of the values.
        buffer: ``[tiles, TILE_WORDS]`` int32: those of 16 words and 16 dimensions a tile.
    """

    product: Product
    head_dim: int
    buffer: tirx.Buffer

    @classmethod
    def allocate(cls, product: Product, head_dim: int) -> StagedValues:
        """Allocate room for a block."""
        tiles = BLOCK // product.word_values * head_dim // TILE_WORDS
        return cls(product, head_dim, scratch((tiles, TILE_WORDS), "int32"))

    def stage(self, context: Context, first: Any, pages: Any) -> None:
        """Copy the values of `pages` pages from `first` on, and zeros up to the end of a tile.

        What stands behind codes there is no harm: it is a number, whose weight is zero.
        """
        words = self.product.page_words

        def store(p: Any, value: Callable[[Any, Any], Any]) -> None:
            with T.serial(0, words) as word, T.serial(0, self.head_dim // LANES) as v:
                T.buffer_store(self.buffer, value(word, v), self._place(p * words + word, v))

        with T.serial(0, pages) as p:
            page = T.bind(context.page(first + p))
            store(p, lambda word, v: context.load_values(page, word, v * LANES))
        if not self.product.scaled:
            tile_pages = amx.STEPS // words
            with T.serial(pages, ceil_div(pages, tile_pages) * tile_pages) as p:
                store(p, lambda _word, _v: splat(T.int32(0)))

    def clear(self, position: Any) -> None:
        """Make zeros of the values of a position and those after it, which are zeros, in a word.

        It may be NaN, or another sequence's, for which a weight of zero is not enough.
        """
        word_values = self.product.word_values
        kept = T.bind(T.Select(position % word_values == 1, T.int32(0xFFFF), T.int32(0)))
        with T.serial(0, self.head_dim // LANES) as v:
            place = self._place(position // word_values, v)
            T.buffer_store(self.buffer, self.buffer[tuple(place)] & splat(kept), place)

    def _place(self, word: Any, v: Any) -> list[Any]:
        """Where `buffer` has a word of sixteen dimensions."""
        tile = word // amx.STEPS * (self.head_dim // LANES) + v
        return [tile, vector(word % amx.STEPS * LANES)]
