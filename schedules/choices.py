"""The kernels that have choices, of either kind, and what these may be."""

from __future__ import annotations

from collections.abc import Mapping

from schedules import tiles
from schedules.attention_tiles import Attention, attention_alternatives
from schedules.isa import Isa
from schedules.tiles import Linear, check_choices

Tiled = Linear | Attention
"""What a kernel is made for whose choices may be made otherwise than by default."""


def alternatives(of: Tiled, isa: Isa) -> dict[str, tuple[int, ...]]:
    """Return what each choice of a kernel may be, the default first; those of one value left out.

    Of values that cut its work alike there is one.
    """
    if isinstance(of, Attention):
        return attention_alternatives(of, isa)
    return tiles.alternatives(of, isa)


def check(chosen: Mapping[str, int], of: Tiled, isa: Isa) -> None:
    """Refuse what no kernel has.

    Raises:
        ValueError: the kernel has no such choice, or not that one.
    """
    check_choices(chosen, alternatives(of, isa), of, isa)
