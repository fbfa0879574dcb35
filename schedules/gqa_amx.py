"""A tile of attention in AMX: how the products of `schedules.gqa_amx_products` take turns.

Where all of a block is seen, four tiles of rows share each tile of keys or values that is loaded.
Such groups of rows pass through three stages: while the softmax of one is computed, in vectors,
tiles multiply the values of the group before and the keys of the one behind. At the diagonal, and
in decode, one tile of rows meets several of keys or values. Both sum in the same order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.gqa_amx_products import STAGES, AmxProducts
from schedules.gqa_shape import BLOCK, BLOCK_PAGES, SEGMENT
from schedules.gqa_tile import ceil_div
from schedules.isa import amx
from schedules.opaque import opaque
from schedules.scratch import scratch

FEW_PAGES = 4
"""Pages of a short softmax, as many as one tile of codes: for a context that ends there."""


@dataclass(frozen=True)
class AmxTile(AmxProducts):
    """See `AmxProducts`."""

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
        self,
        row0: Any,
        place: Any,
        row_tiles: int,
        steps: Any,
        fresh: Any,
        meanwhile: Callable[[Any], None],
        when: Any = None,
    ) -> None:
        """Add the first `steps` tiles of values times the weights of rows from `row0` on.

        The other arguments are those of `_softmax` and `_add_values`.
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
        groups = opaque(self.size.row_tiles // most)
        whole = self._whole_groups(groups, start)
        # Later tokens come first: what a token does not see can then be cleared for all others.
        with T.serial(0, 2) as part:
            with T.If(tirx.all(part == 1, whole > 0)), T.Then():
                self._multiply_groups(groups, whole, first, fresh)
            low = opaque(T.Select(part == 0, groups * most, 0))
            high = opaque(T.Select(part == 0, self.size.row_tiles, (groups - whole) * most))
            with T.serial(0, high - low) as index:
                row = T.bind((high - 1 - index) * amx.ROWS)
                limit = opaque(self._limit(row, start))
                with T.If(limit > 0):
                    with T.Then():
                        self._few_rows(row, first, limit, kept, fresh)
                    with T.Else(), T.If(fresh == 1), T.Then(), T.serial(0, amx.ROWS) as r:
                        self.segment.clear(row + r)

    def _whole_groups(self, groups: Any, start: Any) -> Any:
        """How many of the groups of rows, from the last on, see all of the block at `start`."""
        whole = scratch((1,), "int32")
        T.buffer_store(whole, T.int32(0), [0])
        with T.serial(0, groups) as group:
            sees_all = self._limit(group * self.rows_at_once(), start) == BLOCK
            T.buffer_store(whole, whole[0] + T.cast(sees_all, "int32"), [0])
        return opaque(whole[0])

    def _multiply_groups(self, groups: Any, whole: Any, first: Any, fresh: Any) -> None:
        """Emit the block for the last `whole` of `groups`, which see all of it.

        In each turn, keys of one group, softmax of the one before, values of the one before that.
        """
        rows = self.rows_at_once()
        row_tiles, half = rows // amx.ROWS, rows // 2
        self._prepare(T.int32(BLOCK))
        with T.serial(0, whole + 2) as turn:
            is_softmax = opaque(T.cast(tirx.all(turn >= 1, turn <= whole), "int32"))
            row = opaque((groups - turn) * rows)
            place = opaque((turn + 1) % STAGES * rows)

            def some_softmax(step: Any, steps: int, start: int) -> None:
                each = -(-half // steps)
                with T.If(is_softmax == 1), T.Then(), T.serial(0, each) as i:
                    r = T.bind(start + step * each + i)
                    wanted = tirx.all(r < start + half, self._is_used(row + r))
                    with T.If(wanted), T.Then():
                        self._softmax(row + r, place + r, BLOCK_PAGES, None, fresh)

            other_place = opaque(turn % STAGES * rows)
            value_steps = self.shape.head_dim // amx.COLUMNS * self._value_steps
            self._multiply_values(
                opaque((groups + 1 - turn) * rows),
                other_place,
                row_tiles,
                self._value_steps,
                fresh,
                lambda step: some_softmax(step, value_steps, 0),
                turn >= 2,
            )
            key_row = opaque((groups - 1 - turn) * rows)
            is_keys = opaque(T.cast(turn < whole, "int32"))
            with T.serial(0, BLOCK_PAGES) as page:
                steps = self._key_steps

                def go_on(k: Any, page: Any = page, steps: int = steps) -> None:
                    some_softmax(page * steps + k, BLOCK_PAGES * steps, half)

                index = [T.bind(first + page)]
                self._multiply_keys(
                    key_row, other_place, row_tiles, page, index, go_on, is_keys == 1
                )

    def _few_rows(self, row0: Any, first: Any, limit: Any, kept: tirx.Buffer, fresh: Any) -> None:
        """Emit the block for one tile of rows, which see `limit` positions of it.

        Meanwhile the next block is asked for, where all of it is there.
        """
        context, columns = self.args.context, self.shape.score_pages
        pages = opaque(ceil_div(limit, amx.COLUMNS))
        following = first + BLOCK_PAGES
        is_whole = following + BLOCK_PAGES - 1 <= self._last_page
        ahead = opaque(T.Select(is_whole, following, -1))
        with T.serial(0, ceil_div(pages, columns)) as step:
            page = T.bind(step * columns)
            # Beyond the last page the last is read again, and masked by `_softmax`.
            indices = [T.bind(first + T.min(page + j, pages - 1)) for j in range(columns)]

            def fetch_keys(k: Any, indices: list[Any] = indices) -> None:
                with T.If(ahead >= 0), T.Then():
                    for index in indices:
                        line = k * amx.STEPS
                        context.prefetch_lines(
                            context.key_cache, index + BLOCK_PAGES, line, amx.STEPS
                        )

            self._multiply_keys(row0, 0, 1, page, indices, fetch_keys)
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
        if not context.product.scaled:  # a code is a number, whose weight may be zero
            with T.serial(limit, kept[0]) as position:
                self.values.clear(position)
            T.buffer_store(kept, T.min(limit, kept[0]), [0])
        turns = self.shape.head_dim // amx.COLUMNS // self.shape.value_vectors
        lines = int(self.values.buffer.shape[0]) * amx.STEPS // (turns * self._value_steps)

        def fetch_values(step: Any) -> None:
            with T.If(ahead >= 0), T.Then():
                context.prefetch_lines(context.value_cache, ahead, step * lines, lines)

        steps = opaque(ceil_div(limit, self._tile_positions))
        self._multiply_values(row0, 0, 1, steps, fresh, fetch_values)

    def _used_rows(self, row0: Any) -> Any:
        """How many rows of a tile of rows are heads of the group."""
        if self.shape.group % amx.ROWS == 0:
            return amx.ROWS
        return T.min(self.shape.group - row0 % self.shape.token_rows, amx.ROWS)

    def _is_used(self, row: Any) -> Any:
        """Whether a row is a head of the group."""
        if self.shape.group % amx.ROWS == 0:
            return tirx.const(True, "bool")
        return row % self.shape.token_rows < self.shape.group

    def _stage(self, first: Any, pages: Any) -> None:
        """Keep what all rows share of a block of `pages` pages from `first` on."""
        self.values.stage(self.args.context, first, pages)
