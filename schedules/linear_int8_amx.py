"""The int8 linear in AMX tiles, over the same weights and activations as without them.

The packed weights are tiles of B as they stand: 16 steps of four bytes for 32 channels. Sums are
exact, so which rows are multiplied in tiles and which are not makes no difference.
"""

from __future__ import annotations

from typing import Any

from schedules.amx_nest import ROWS, AmxNest
from schedules.integer_linear import IntegerLinear, Steps
from schedules.isa import amx
from schedules.sums import Sums
from schedules.tiles import ByteTiles, IntegerTiles


def spare_rows(tiles: IntegerTiles) -> int:
    """Return how many rows after the last one are read, and multiplied for nothing."""
    return ROWS if isinstance(tiles, ByteTiles) else tiles.rows


def emit_tiles(linear: IntegerLinear, tiles: ByteTiles, tokens: Any) -> None:
    """Emit the tasks of `linear`, whose steps are of four values, in tiles."""
    steps = int(linear.weight.shape[1])
    whole = steps // amx.STEPS * amx.STEPS

    def rest(sums: Sums, block: Any, start: Any, count: Any) -> None:
        linear.add_products(sums, start, count, Steps(block, whole, steps - whole))

    nest = AmxNest(amx.BYTES, tiles, linear.x.rows, linear.weight, linear.finish, rest)
    rows = tokens * linear.x.planes
    nest.emit(rows, linear.worth_a_launch(rows))
