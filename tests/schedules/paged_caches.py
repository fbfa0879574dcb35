"""Caches in the layout of `schedules.kv_cache`, written out as its documentation says."""

from __future__ import annotations

import numpy as np


def key_cache_of(key_PTKD: np.ndarray) -> np.ndarray:
    """``[pages, 16, kv_heads, head_dim]`` with neighbours of head_dim in one 32-bit word."""
    pages, offsets, kv_heads, head_dim = key_PTKD.shape
    pack = 4 // key_PTKD.itemsize
    cache = np.empty((pages, kv_heads, head_dim // pack, offsets * pack), key_PTKD.dtype)
    for t in range(offsets):
        for d in range(head_dim):
            cache[:, :, d // pack, t * pack + d % pack] = key_PTKD[:, t, :, d]
    return cache


def value_cache_of(value_PTKD: np.ndarray) -> np.ndarray:
    """``[pages, 16, kv_heads, head_dim]`` with neighbouring positions in one 32-bit word."""
    pages, offsets, kv_heads, head_dim = value_PTKD.shape
    pack = 4 // value_PTKD.itemsize
    cache = np.empty((pages, kv_heads, offsets // pack, head_dim * pack), value_PTKD.dtype)
    for t in range(offsets):
        for d in range(head_dim):
            cache[:, :, t // pack, d * pack + t % pack] = value_PTKD[:, t, :, d]
    return cache
