"""The bf16 linear in AMX tiles, whatever the number of tokens.

The packed weights are tiles of B as they stand: 16 steps of a pair for 64 channels. Tiles sum in
another order than ``vdpbf16ps`` (`schedules.isa.amx.BF16`), so that all tokens go through them: one
alone costs a sixteenth of a tile's rows, and less time than its weights take from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.amx_nest import COLUMNS, AmxNest
from schedules.isa import amx
from schedules.scratch import scratch
from schedules.sums import Sums
from schedules.tiles import AmxTiles

PAIR_BYTES = 4
"""Bytes of a pair of bf16."""


def emit_tiles(
    tiles: AmxTiles,
    packed: Any,
    weight: Any,
    tokens: Any,
    parallel: Any,
    finish: Callable[[Sums, Any, Any, Any], None],
) -> None:
    """Emit all products.

    Args:
        tiles: how the work is cut.
        packed: ``[tokens and more, stride]`` int32, pairs of bf16; zeros fill up the last tile.
        weight: ``[blocks, pairs, 64, 2]``.
        tokens: number of rows.
        parallel: whether the tasks are worth a launch.
        finish: emits what follows from the sums of (32 channels, first row, number of rows).
    """
    blocks, pairs = (int(size) for size in weight.shape[:2])
    whole = pairs // amx.STEPS * amx.STEPS
    columns = amx.BF16.b_stride // PAIR_BYTES
    bits = T.decl_buffer((blocks, pairs, columns), "int32", data=weight.data)
    parts = columns // COLUMNS

    def rest(sums: Sums, unit: Any, start: Any, count: Any) -> None:
        # Beyond the end of a block stand other weights: the tile is completed with zeros.
        last = scratch((amx.STEPS, columns), "int32")
        lanes = COLUMNS // 2
        with T.serial(0, amx.STEPS) as step, T.serial(0, 2) as half:
            T.buffer_store(
                last, T.broadcast(T.int32(0), lanes), [step, T.ramp(half * lanes, 1, lanes)]
            )
        with T.serial(0, pairs - whole) as step, T.serial(0, 2) as half:
            at = T.ramp(unit % parts * COLUMNS + half * lanes, 1, lanes)
            value = bits[unit // parts, whole + step, at]
            T.buffer_store(last, value, [step, T.ramp(half * lanes, 1, lanes)])
        for row_tiles in (1, 2):
            fits = count <= amx.ROWS
            with T.If(fits if row_tiles == 1 else tirx.Not(fits)), T.Then():
                amx.multiply_tiles(
                    amx.BF16,
                    row_tiles,
                    a=lambda tile_row, _k: packed[start + tile_row * amx.ROWS, whole],
                    a_stride=PAIR_BYTES * int(packed.shape[1]),
                    b=lambda column, _k: last[0, column * amx.COLUMNS],
                    sums=lambda tile_row, column: sums.buffer[
                        sums.first_row + tile_row * amx.ROWS,
                        sums.first_column + column * amx.COLUMNS,
                    ],
                    sums_stride=PAIR_BYTES * int(sums.buffer.shape[1]),
                    length=1,
                    fresh=tirx.const(False, "bool"),
                )

    AmxNest(amx.BF16, tiles, packed, weight, finish, rest).emit(tokens, parallel)
