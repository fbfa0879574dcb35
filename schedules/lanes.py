"""Expressions that serve scalars and vectors alike, as loops of `for_lanes` need them."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


def like(value: Any, base: str) -> str:
    """Return the type of `base` with the lanes of `value`: ``int8x16`` for one of fp32x16."""
    _, times, lanes = str(value.ty.dtype).partition("x")
    return base + times + lanes


def spread(scalar: Any, value: Any) -> tirx.Expr:
    """Return `scalar` in as many lanes as `value` has."""
    lanes = str(value.ty.dtype).partition("x")[2]
    return T.broadcast(scalar, int(lanes)) if lanes else scalar


def shift(index: Any, distance: Any) -> tirx.Expr:
    """Return ``index + distance``, a ramp where `index` is one.

    The plain sum of a ramp and a scalar is a broadcast to TVM, whose bounds it does not find.
    """
    if isinstance(index, tirx.Ramp):
        return T.ramp(index.base + distance, 1, index.lanes)
    return index + distance
