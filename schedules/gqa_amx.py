"""A tile of attention whose products are AMX tiles.

Register tiles are 16 rows, all of one token, so that a token with few query heads leaves rows
unused. A page of keys is tiles of B as it stands. Values must fill tiles along the positions, which
takes two pages of 16 bits or four of bytes: a block of them is copied once for all rows.

Where all of a block is seen, four tiles of rows share each tile of keys or values that is loaded;
at the diagonal, and in decode, one tile of rows meets several of them. Both sum in the same order.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_amx_values import TILE_WORDS, StagedValues
from schedules.gqa_arguments import TileArguments
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, BLOCK_PAGES, SEGMENT, TileShape
from schedules.gqa_sums import Sums
from schedules.gqa_tile import Tile, TileSize, ceil_div
from schedules.isa import amx
from schedules.opaque import opaque
from schedules.registers import LANES, splat, vector
from schedules.scratch import scratch

FEW_PAGES = 4
"""Pages of a short softmax, as many as one tile of codes: for a context that ends there."""


@dataclass(frozen=True)
class AmxTile(Tile):
    """See `Tile`.

    Attributes:
        planes: tiles of A that a tile of rows takes for the same values: 1, or one a digit.
        key_product: of queries and keys.
        value_product: of weights and values.
        scores: ``[rows at once, planes * BLOCK]``.
        weights: rows at once of `BLOCK`.
        values: those of a block.
    """

    planes: ClassVar[int]
    key_product: ClassVar[amx.TileProduct]
    value_product: ClassVar[amx.TileProduct]

    scores: tirx.Buffer
    weights: LeftRows
    values: StagedValues

    @classmethod
    def _common(cls, shape: TileShape, args: TileArguments) -> dict[str, Any]:
        """Bind the tile's size and allocate what all kinds of tiles have."""
        rows, head_dim = cls.rows_at_once(), shape.head_dim
        weights = cls._left_rows(rows, BLOCK, keys=False)
        if shape.group % amx.ROWS:  # the weights of unused rows are never written
            with T.serial(0, rows) as row, T.serial(0, int(weights.buffer.shape[1]) // LANES) as v:
                T.buffer_store(weights.buffer, splat(T.int32(0)), [row, vector(v * LANES)])
        return {
            "shape": shape,
            "args": args,
            "size": TileSize.of(shape, args),
            "query": cls._left_rows(shape.rows, head_dim, keys=True),
            "segment": Sums(scratch((shape.rows, head_dim + 2 * LANES), "float32"), head_dim),
            "scores": scratch((rows, cls.planes * BLOCK), cls.key_product.sums),
            "weights": weights,
            "values": StagedValues.allocate(args.context.product, head_dim),
        }

    @classmethod
    def rows_at_once(cls) -> int:
        """Rows whose sums with one tile of B are in registers at a time."""
        return amx.MOST_SUMS // cls.planes * amx.ROWS

    @classmethod
    @abstractmethod
    def _left_rows(cls, rows: int, values: int, *, keys: bool) -> LeftRows:
        """Allocate rows as `Product.left_rows` does, in scratch."""

    def _prepare(self, limit: Any) -> None:
        """Emit what comes before the softmax of rows that see `limit` positions of the block."""

    @abstractmethod
    def _softmax(self, row: Any, place: Any, pages: int, limit: Any, fresh: Any) -> None:
        """Turn a row's scores of `pages` pages, of which it sees `limit` positions, into weights.

        They are at `place`; a `limit` of None is all of them. Where `fresh` is one, the segment
        has no sums yet.
        """

    @abstractmethod
    def _multiply_values(
        self, row0: Any, row_tiles: int, steps: Any, ahead: Any, fresh: Any
    ) -> None:
        """Add the first `steps` tiles of values times the weights of rows from `row0` on.

        `ahead` as in `_multiply_keys`, `fresh` as in `_softmax`.
        """

    def emit(self, *args: Any) -> None:
        """See `Tile`."""
        amx.begin_tiles()
        self._ask_for(args[1])
        super().emit(*args)
        amx.end_tiles()

    def _begin_segment(self) -> None:
        """See `Tile`; the first block of a segment overwrites its sums."""

    def _ask_for(self, segment: Any) -> None:
        """Have the first pages of the first segment fetched while queries are made ready."""
        first = T.bind(segment * (SEGMENT // amx.COLUMNS))
        there = T.min(self._last_page + 1 - first, FEW_PAGES)
        self.args.context.prefetch_pages(first, opaque(there))

    def _block(self, start: Any) -> None:
        context, most = self.args.context, self.rows_at_once() // amx.ROWS
        fresh = opaque(T.cast(start % SEGMENT == 0, "int32"))
        first = opaque(start // amx.COLUMNS)
        pages = opaque(ceil_div(self._limit(self.size.rows - 1, start), amx.COLUMNS))
        context.stage_block(context.key_cache, first, pages)
        self._stage(first, pages)
        kept = scratch((1,), "int32")
        T.buffer_store(kept, pages * amx.COLUMNS, [0])
        groups = T.bind(ceil_div(self.size.row_tiles, most))
        # Later tokens come first: what a token does not see can then be cleared for all others.
        with T.serial(0, groups) as group:
            row_tile = opaque((groups - 1 - group) * most)
            count = opaque(T.min(self.size.row_tiles - row_tile, most))
            row0 = T.bind(row_tile * amx.ROWS)
            all_whole = tirx.all(count == most, self._limit(row0, start) == BLOCK)
            with T.If(opaque(T.cast(all_whole, "int32")) == 1):
                with T.Then():
                    self._whole_rows(row0, first, fresh)
                with T.Else(), T.serial(0, count) as index:
                    row = T.bind((row_tile + count - 1 - index) * amx.ROWS)
                    limit = opaque(self._limit(row, start))
                    with T.If(limit > 0):
                        with T.Then():
                            self._few_rows(row, first, limit, kept, fresh)
                        with T.Else(), T.If(fresh == 1), T.Then(), T.serial(0, amx.ROWS) as r:
                            self.segment.clear(row + r)

    def _whole_rows(self, row0: Any, first: Any, fresh: Any) -> None:
        """Emit the block for all the rows at once, which see all of it."""
        row_tiles = self.rows_at_once() // amx.ROWS
        with T.serial(0, BLOCK_PAGES) as page:
            self._multiply_keys(row0, row_tiles, page, [T.bind(first + page)], None)
        self._prepare(T.int32(BLOCK))
        with T.serial(0, row_tiles) as row_tile:
            offset = T.bind(row_tile * amx.ROWS)
            with T.serial(0, self._used_rows(row0 + offset)) as row:
                self._softmax(row0 + offset + row, offset + row, BLOCK_PAGES, None, fresh)
        self._multiply_values(row0, row_tiles, BLOCK // self._tile_positions, None, fresh)

    def _few_rows(self, row0: Any, first: Any, limit: Any, kept: tirx.Buffer, fresh: Any) -> None:
        """Emit the block for one tile of rows, which see `limit` positions of it.

        Meanwhile the next block is asked for, where all of it is there.
        """
        pages = opaque(ceil_div(limit, amx.COLUMNS))
        following = first + BLOCK_PAGES
        is_whole = following + BLOCK_PAGES - 1 <= self._last_page
        ahead = opaque(T.Select(is_whole, following, -1))
        with T.serial(0, ceil_div(pages, self.shape.score_pages)) as step:
            page = T.bind(step * self.shape.score_pages)
            # Beyond the last page the last is read again, and masked by `_softmax`.
            indices = [
                T.bind(first + T.min(page + j, pages - 1)) for j in range(self.shape.score_pages)
            ]
            self._multiply_keys(row0, 1, page, indices, ahead)
        self._prepare(limit)
        with T.serial(0, self._used_rows(row0)) as row:  # noqa: SIM117
            with T.If(limit == BLOCK):
                with T.Then():
                    self._softmax(row0 + row, row, BLOCK_PAGES, None, fresh)
                with T.Else(), T.If(limit > FEW_PAGES * amx.COLUMNS):
                    with T.Then():
                        self._softmax(row0 + row, row, BLOCK_PAGES, limit, fresh)
                    with T.Else():
                        self._softmax(row0 + row, row, FEW_PAGES, limit, fresh)
        if not self.args.context.product.scaled:  # a code is a number, whose weight may be zero
            with T.serial(limit, kept[0]) as position:
                self.values.clear(position)
            T.buffer_store(kept, T.min(limit, kept[0]), [0])
        self._multiply_values(row0, 1, opaque(ceil_div(limit, self._tile_positions)), ahead, fresh)

    @property
    def _tile_positions(self) -> int:
        """Positions that a tile of values covers."""
        return amx.STEPS * self.args.context.product.word_values

    def _used_rows(self, row0: Any) -> Any:
        """How many rows of a tile of rows are heads of the group."""
        if self.shape.group % amx.ROWS == 0:
            return amx.ROWS
        return T.min(self.shape.group - row0 % self.shape.token_rows, amx.ROWS)

    def _multiply_keys(
        self, row0: Any, row_tiles: int, page: Any, indices: list[Any], ahead: Any
    ) -> None:
        """Scores of the rows from `row0` on against pages; `page` is the first in the block.

        `ahead` is the first page of the next block, to ask for it; negative or None for none.
        """
        context, planes = self.args.context, self.planes
        pages = [T.bind(context.page(index)) for index in indices]
        lines = int(context.key_cache.shape[2])
        shape = (*context.key_cache.shape[:2], lines, amx.ROW_BYTES)
        cache = T.decl_buffer(shape, "uint8", data=context.key_cache.data)
        words = int(self.query.buffer.shape[1]) // planes

        def key(column: int, k: Any) -> Any:
            if context.stage is not None:
                return context.stage[indices[column] % BLOCK_PAGES, k * TILE_WORDS]
            return cache[pages[column], context.head, k * amx.STEPS, 0]

        def fetch(k: Any) -> None:
            with T.If(ahead >= 0), T.Then():
                for index in indices:
                    line = k * amx.STEPS
                    context.prefetch_lines(context.key_cache, index + BLOCK_PAGES, line, amx.STEPS)

        amx.multiply_tiles(
            self.key_product,
            row_tiles * planes,
            len(indices),
            a=lambda tile, k: self.query.buffer[
                row0 + tile // planes * amx.ROWS, tile % planes * words + k * amx.STEPS
            ],
            a_stride=4 * words * planes,
            b=key,
            sums=lambda tile, column: self.scores[
                tile // planes * amx.ROWS, tile % planes * BLOCK + (page + column) * amx.COLUMNS
            ],
            sums_stride=4 * planes * BLOCK,
            length=words // amx.STEPS,
            fresh=tirx.const(True, "bool"),
            meanwhile=nothing if ahead is None else fetch,
        )

    def _add_values(
        self, row_tiles: int, steps: Any, sums: tirx.Buffer, row0: Any, ahead: Any, *, fresh: Any
    ) -> None:
        """``sums = (fresh ? 0 : sums) + weights . values``, planes side by side."""
        planes, head_dim = self.planes, self.shape.head_dim
        words = int(self.weights.buffer.shape[1]) // planes
        columns = 1 if row_tiles > 1 else self.shape.value_vectors
        vectors = head_dim // amx.COLUMNS
        turns = vectors // columns * (BLOCK // self._tile_positions)
        lines = int(self.values.buffer.shape[0]) * amx.STEPS // turns

        with T.serial(0, vectors // columns) as step:
            first = T.bind(step * columns)

            def fetch(k: Any, step: Any = step) -> None:
                with T.If(ahead >= 0), T.Then():
                    line = (step * steps + k) * lines
                    context = self.args.context
                    context.prefetch_lines(context.value_cache, ahead, line, lines)

            amx.multiply_tiles(
                self.value_product,
                row_tiles * planes,
                columns,
                a=lambda tile, k: self.weights.buffer[
                    tile // planes * amx.ROWS, tile % planes * words + k * amx.STEPS
                ],
                a_stride=4 * words * planes,
                b=lambda column, k: self.values.buffer[k * vectors + first + column, 0],
                sums=lambda tile, column: sums[
                    row0 + tile // planes * amx.ROWS,
                    tile % planes * head_dim + (first + column) * amx.COLUMNS,
                ],
                sums_stride=4 * int(sums.shape[1]),
                length=steps,
                fresh=fresh,
                meanwhile=nothing if ahead is None else fetch,
            )

    def _stage(self, first: Any, pages: Any) -> None:
        """Keep what all rows share of a block of `pages` pages from `first` on."""
        self.values.stage(self.args.context, first, pages)


def nothing(_k: Any) -> None:
    """Emit nothing."""
