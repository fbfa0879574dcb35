"""The int8 linear in AMX tiles, over the same weights and activations as without them.

The packed weights are tiles of B as they stand: 16 steps of four bytes for 32 channels. Sums are
exact, so which rows are multiplied in tiles and which are not makes no difference.
"""

from __future__ import annotations

from typing import Any

from schedules.amx_nest import ROWS, AmxNest
from schedules.integer_linear import TILE_ROWS, IntegerLinear, Steps
from schedules.isa import Isa, amx
from schedules.sums import Sums

FEWEST_ROWS = 5
"""Rows from which tiles are faster (measured: equal at 4, a tenth at 5, a third at 16): 16 rows in
a tile cost no more than reading the weights does."""


def spare_rows(isa: Isa) -> int:
    """Return how many rows after the last one are read, and multiplied for nothing."""
    return ROWS if isa.tiles else TILE_ROWS


def fits_tiles(in_features: int, isa: Isa) -> bool:
    """Tell whether the target has tiles and `in` fills one."""
    return isa.tiles and in_features >= amx.ROW_BYTES


def emit_tiles(linear: IntegerLinear, tokens: Any) -> None:
    """Emit the tasks of `linear`, whose steps are of four values, in tiles."""
    steps = int(linear.weight.shape[1])
    whole = steps // amx.STEPS * amx.STEPS

    def rest(sums: Sums, block: Any, start: Any, count: Any) -> None:
        linear.add_products(sums, start, count, Steps(block, whole, steps - whole))

    nest = AmxNest(amx.BYTES, linear.x.rows, linear.weight, linear.finish, rest)
    rows = tokens * linear.x.planes
    nest.emit(rows, linear.worth_a_launch(rows))
