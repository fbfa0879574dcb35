"""Names of the inputs and outputs of an exported GLM, in order."""

from __future__ import annotations

IDS = ("input_ids", "position_ids")
LOGITS = "logits"


def past_names(layers: int) -> list[str]:
    """Return the inputs that hold the past keys and values."""
    return _cache_names("past_key_values", layers)


def present_names(layers: int) -> list[str]:
    """Return the outputs that hold the past and new keys and values."""
    return _cache_names("present", layers)


def output_names(layers: int) -> list[str]:
    """Return the graph's outputs."""
    return [LOGITS, *present_names(layers)]


def _cache_names(prefix: str, layers: int) -> list[str]:
    return [f"{prefix}.{i}.{kind}" for i in range(layers) for kind in ("key", "value")]
