"""Words that more than one room needs."""

from __future__ import annotations

from collections.abc import Sequence


def layers_text(layers: Sequence[int]) -> str:
    """Return ``layer 1`` or ``layers 1, 3``."""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
