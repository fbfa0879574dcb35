"""What a call says of how its kernel is to cut its work."""

from __future__ import annotations

from tvm import relax

TILES = "tiles"
"""Attribute of a call: by name, what its kernel chooses otherwise than by default; mostly there is
none (`relay_passes.choose_tiles`)."""


def chosen_tiles(call: relax.Call) -> dict[str, int]:
    """Return the choices that a call names."""
    return {str(key): int(value) for key, value in call.attrs.get(TILES, {}).items()}
