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
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from schedules.gqa_arguments import TileArguments
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, SEGMENT, TileShape
from schedules.gqa_sums import Sums
from schedules.hadamard import emit_hadamard, transform_size
from schedules.opaque import opaque
from schedules.registers import register, vector
from tvm_vacc.limits import PAGE_SIZE


@dataclass(frozen=True)
class TileSize:
    """What a tile has of the most that its shape allows.

    Attributes:
        last_token: the last of the tile.
        rows: of its tokens.
        row_tiles: register tiles that they take.
    """

    last_token: Any
    rows: Any
    row_tiles: Any

    @classmethod
    def of(cls, shape: TileShape, args: TileArguments) -> TileSize:
        """Bind the sizes."""
        last_token = opaque(T.min(args.first + shape.tokens, args.end) - 1)
        rows = opaque((last_token + 1 - args.first) * shape.token_rows)
        return cls(last_token, rows, opaque(ceil_div(rows, shape.register_rows)))


@dataclass(frozen=True)
class Tile(ABC):
    """Emits the computation of a tile on scratch buffers of its own.

    Rows are ``token * token_rows + head``; those beyond the last token repeat it, and those beyond
    the last head of the group repeat that: their sums are of no use.

    Attributes:
        shape: how rows are cut.
        args: which tokens of which sequence.
        size: as many as they are.
        query: rows of scaled queries, as the keys are transformed.
        segment: sums over the positions of the segment so far.
    """

    shape: TileShape
    args: TileArguments
    size: TileSize
    query: LeftRows
    segment: Sums

    @classmethod
    @abstractmethod
    def allocate(cls, shape: TileShape, args: TileArguments) -> Tile:
        """Bind the tile's size and allocate its buffers."""

    def emit(self, scale: float, first: Any, last: Any, finish: Callable[[Any], None]) -> None:
        """Emit segments `first` up to `last`, and `finish` of the segment after each.

        `finish` takes the sums from `segment`; `scale` is the factor of the scores.
        """
        with T.serial(0, self._padded_rows) as row:
            self._load_query(row, scale)
        with T.serial(first, last) as segment:
            base = T.bind(segment * SEGMENT)
            self._begin_segment()
            positions = T.min(self.args.seen(self.size.last_token) - base, SEGMENT)
            with T.serial(0, opaque(ceil_div(positions, BLOCK))) as block:
                self._block(opaque(base + block * BLOCK))
            finish(segment)

    def _begin_segment(self) -> None:
        """Make `segment` the sums over no position."""
        with T.serial(0, self._padded_rows) as row:
            self.segment.clear(row)

    @abstractmethod
    def _block(self, start: Any) -> None:
        """Add the positions from `start` on to the sums of the segment."""

    @property
    def _padded_rows(self) -> Any:
        return self.size.row_tiles * self.shape.register_rows

    @property
    def _last_page(self) -> Any:
        return (self.args.seen(self.size.last_token) - 1) // PAGE_SIZE

    def _token(self, row: Any) -> Any:
        return T.min(self.args.first + row // self.shape.token_rows, self.size.last_token)

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
            register(self.args.query[token, head, vector(d)]) for d in range(0, head_dim, PAGE_SIZE)
        ]
        if product.scaled:
            emit_hadamard(values)
        product.store_left(self.query, row, values, factor)


def ceil_div(number: Any, divisor: int) -> Any:
    """Divide and round up."""
    return (number + divisor - 1) // divisor
