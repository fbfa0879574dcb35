"""The loop nest of linears whose products are AMX tiles, for bytes and for bf16.

A task owns one panel of activation rows and a group of blocks of weights. It goes over `in` a
chunk at a time; the panel's part of a chunk stays in the second-level cache while the blocks pass
by, each fetched from memory while the one before it is multiplied. Two tiles of rows by two of
columns are summed in registers over the whole chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import amx
from schedules.opaque import opaque
from schedules.parallel import for_each_where
from schedules.prefetch import prefetch
from schedules.scratch import scratch
from schedules.sums import Sums
from schedules.tiles import AmxTiles

ROWS = 2 * amx.ROWS
"""Rows of a product: two tiles."""

COLUMNS = 2 * amx.COLUMNS
"""Columns of a product."""

SPARE_ROWS = 16
"""Rows of sums after the last, for a `rest` that computes more than there are."""

Emit = Callable[[Sums, Any, Any, Any], None]
"""Emits something for the sums of (tile of columns, first row, number of rows)."""


@dataclass(frozen=True)
class AmxNest:
    """Emits the products of one kernel, and what follows from each tile of sums.

    Attributes:
        product: of which dtypes.
        tiles: how the work is cut.
        rows: activations ``[rows, stride]``, any dtype; `ROWS` more than are counted may be read.
        weight: ``[blocks, steps, ...]``, any dtype, ``product.b_stride`` bytes a step; at least
            `amx.STEPS` steps.
        finish: of finished sums.
        rest: adds the products of the steps that fill no tile.
    """

    product: amx.TileProduct
    tiles: AmxTiles
    rows: Any
    weight: Any
    finish: Emit
    rest: Emit

    def emit(self, count: Any, parallel: Any) -> None:
        """Emit all tasks for `count` rows, in parallel where `parallel` is true."""
        blocks = int(self.weight.shape[0])
        block_columns = self.product.b_stride // 4
        many = count > ROWS
        group = opaque(
            T.Select(many, T.int64(self.tiles.group_columns // block_columns), T.int64(1))
        )
        groups = opaque(T.ceildiv(blocks, group))
        # By all rows, not by those of a task: the sums of several blocks need a panel each where
        # there are several chunks, and a last panel may have as few rows as one tile.
        whole = int(self.weight.shape[1]) // amx.STEPS
        few = T.int64(min(self.tiles.few_rows_chunk_tiles, whole))
        longest = opaque(T.Select(many, T.int64(self._even(whole)), few))
        tasks = T.ceildiv(count, self.tiles.panel_rows) * groups

        def one_task(task: Any) -> None:
            start = T.bind(task // groups * self.tiles.panel_rows)
            first = T.bind(task % groups * group)
            size = T.bind(T.min(group, blocks - first))
            rows = opaque(T.min(count - start, self.tiles.panel_rows))
            self._task(first, size, start, rows, longest)

        for_each_where(parallel, tasks, one_task)

    def _task(self, first_block: Any, size: Any, start: Any, count: Any, longest: Any) -> None:
        """Emit `size` blocks of weights times one panel of rows, in chunks of up to `longest`."""
        blocks, steps = (int(extent) for extent in self.weight.shape[:2])
        parts = self.product.b_stride // (4 * COLUMNS)
        weight = _bytes(self.weight, (blocks, steps, self.product.b_stride))
        memory = _bytes(
            self.weight, (blocks * steps * self.product.b_stride // amx.ROW_BYTES, amx.ROW_BYTES)
        )
        rows = _bytes(self.rows, (self.rows.shape[0], _row_bytes(self.rows)))
        whole = steps // amx.STEPS
        tiles = opaque(T.ceildiv(count, ROWS))
        chunks = opaque(T.ceildiv(whole, longest))
        # Where all of `in` is one chunk, no panel of sums is kept from one product to the next.
        # Rows a power of two apart would share a few sets of the cache: one line more a row.
        keeps = self._even(whole) < whole
        of_task = (self.tiles.panel_rows, self.tiles.group_columns)
        kept = of_task if keeps else (ROWS, parts * COLUMNS)
        sums = scratch((kept[0] + SPARE_ROWS, kept[1] + amx.COLUMNS), self.product.sums)
        # Lines of the next block that one step fetches, so that all steps together fetch them all.
        all_lines = amx.STEPS * COLUMNS * 4 // amx.ROW_BYTES
        streams = self.tiles.streams
        lines = opaque(T.ceildiv(all_lines // streams, tiles) * streams)
        amx.begin_tiles()
        with T.serial(0, chunks) as chunk, T.serial(0, size * parts) as index:
            first = opaque(chunk * longest)
            length = opaque(T.min(longest, whole - first))
            block, part = T.bind(index // parts), T.bind(index % parts)
            # What is multiplied next: the same chunk of the next block, or the next chunk.
            last_block = T.bind(block == size - 1)
            turns = T.bind(tirx.all(last_block, chunk < chunks - 1))
            then_block = T.bind(first_block + T.Select(turns, T.int64(0), block + 1))
            then_chunk = T.Select(last_block, (chunk + 1) % chunks, chunk)
            step_lines = self.product.b_stride // amx.ROW_BYTES
            then_step = then_block * steps + then_chunk * longest * amx.STEPS
            then_line = opaque(then_step * step_lines)
            with T.serial(0, tiles) as tile:
                row = T.bind(tile * ROWS)
                left = opaque(T.min(count - row, ROWS))
                place = (row, index * COLUMNS) if keeps else (0, part * COLUMNS)
                piece = opaque(then_line + (part * tiles + tile) * lines * length)

                def a(tile_row: int, k: Any, row: Any = row, first: Any = first) -> Any:
                    return rows[start + row + tile_row * amx.ROWS, (first + k) * amx.ROW_BYTES]

                def b(column: int, k: Any, at: Any = (block, part, first)) -> Any:
                    byte = (at[1] * 2 + column) * amx.ROW_BYTES
                    return weight[first_block + at[0], (at[2] + k) * amx.STEPS, byte]

                def sums_at(tile_row: int, column: int, place: Any = place) -> Any:
                    return sums[place[0] + tile_row * amx.ROWS, place[1] + column * amx.COLUMNS]

                def fetch(k: Any, piece: Any = piece, length: Any = length) -> None:
                    each = lines // streams
                    with T.serial(0, each) as line:
                        for stream in range(streams):
                            prefetch(memory[piece + (stream * length + k) * each + line, 0], 2)

                for row_tiles in (1, 2):
                    fits = left <= amx.ROWS
                    with T.If(fits if row_tiles == 1 else tirx.Not(fits)), T.Then():
                        amx.multiply_tiles(
                            self.product,
                            row_tiles,
                            a=a,
                            a_stride=int(rows.shape[1]),
                            b=b,
                            sums=sums_at,
                            sums_stride=4 * int(sums.shape[1]),
                            length=length,
                            fresh=chunk == 0,
                            meanwhile=fetch,
                        )
                with T.If(chunk == chunks - 1), T.Then():
                    of_tile, at = Sums(sums, *place), T.bind(start + row)
                    unit = T.bind((first_block + block) * parts + part)
                    if steps % amx.STEPS:
                        self.rest(of_tile, unit, at, left)
                    # Here, not after all products: the stores then drain behind the next ones.
                    self.finish(of_tile, unit, at, left)
        amx.end_tiles()

    def _even(self, whole: int) -> int:
        """Return the tiles of a chunk of many rows: chunks alike."""
        return -(-whole // -(-whole // self.tiles.chunk_tiles))


def _bytes(buffer: Any, shape: tuple[Any, ...]) -> Any:
    return T.decl_buffer(shape, "uint8", data=buffer.data)


def _row_bytes(buffer: Any) -> int:
    return int(buffer.shape[1]) * tirx.const(0, buffer.dtype).ty.dtype.bits // 8
