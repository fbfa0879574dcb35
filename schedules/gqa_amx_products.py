"""The products of a tile of attention in AMX: queries times keys, weights times values.

Register tiles are 16 rows, all of one token, so that a token with few query heads leaves rows
unused. A page of keys is tiles of B as it stands. Values must fill tiles along the positions, which
takes two pages of 16 bits or four of bytes: a block of them is copied once for all rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_amx_values import TILE_WORDS, StagedValues
from schedules.gqa_arguments import TileArguments
from schedules.gqa_product import LeftRows
from schedules.gqa_shape import BLOCK, BLOCK_PAGES, TileShape
from schedules.gqa_sums import Sums
from schedules.gqa_tile import Tile, TileSize
from schedules.isa import amx
from schedules.registers import LANES, splat, vector
from schedules.scratch import scratch

STAGES = 2
"""Groups of rows whose scores and weights are there at a time."""


@dataclass(frozen=True)
class AmxProducts(Tile):
    """See `Tile`.

    Attributes:
        planes: tiles of A that a tile of rows takes for the same values: 1, or one a digit.
        key_product: of queries and keys.
        value_product: of weights and values.
        scores: ``[STAGES * rows at once, planes * BLOCK]``.
        weights: as many rows of `BLOCK`.
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
        rows, head_dim = STAGES * cls.rows_at_once(), shape.head_dim
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

    @property
    def _tile_positions(self) -> int:
        """Positions that a tile of values covers."""
        return amx.STEPS * self.args.context.product.word_values

    @property
    def _key_steps(self) -> int:
        """Tiles that a query takes."""
        return int(self.query.buffer.shape[1]) // self.planes // amx.STEPS

    @property
    def _value_steps(self) -> int:
        """Tiles that the weights of a block take."""
        return BLOCK // self._tile_positions

    def _multiply_keys(
        self,
        row0: Any,
        place: Any,
        row_tiles: int,
        page: Any,
        indices: list[Any],
        meanwhile: Callable[[Any], None],
        when: Any = None,
    ) -> None:
        """Scores, to be at `place`, of the rows from `row0` on against the pages `indices`.

        `page` is the first of these in the block; `meanwhile` and `when` are those of
        `amx.multiply_tiles`.
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
                place + tile // planes * amx.ROWS,
                tile % planes * BLOCK + (page + column) * amx.COLUMNS,
            ],
            sums_stride=4 * planes * BLOCK,
            length=self._key_steps,
            fresh=tirx.const(True, "bool"),
            meanwhile=meanwhile,
            when=when,
        )

    def _add_values(
        self,
        place: Any,
        row_tiles: int,
        steps: Any,
        sums: tirx.Buffer,
        row0: Any,
        fresh: Any,
        meanwhile: Callable[[Any], None],
        when: Any = None,
    ) -> None:
        """``sums = (fresh ? 0 : sums) + weights . values``, planes side by side.

        The weights are at `place`; `meanwhile` takes the number of the step, of all there are.
        """
        planes, head_dim = self.planes, self.shape.head_dim
        words = int(self.weights.buffer.shape[1]) // planes
        columns = 1 if row_tiles > 1 else self.shape.value_vectors
        vectors = head_dim // amx.COLUMNS

        with T.serial(0, vectors // columns) as turn:
            first = T.bind(turn * columns)

            def go_on(k: Any, turn: Any = turn) -> None:
                meanwhile(turn * steps + k)

            amx.multiply_tiles(
                self.value_product,
                row_tiles * planes,
                columns,
                a=lambda tile, k: self.weights.buffer[
                    place + tile // planes * amx.ROWS, tile % planes * words + k * amx.STEPS
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
                meanwhile=go_on,
                when=when,
            )
