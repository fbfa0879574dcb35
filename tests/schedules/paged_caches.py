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


def int8_key_cache_of(key_PTKD: np.ndarray) -> np.ndarray:
    """``[pages, 16, kv_heads, head_dim]`` fp32 transformed and quantised, four codes a word."""
    return _int8_cache_of(key_PTKD @ hadamard_matrix(key_PTKD.shape[-1]), keys=True)


def int8_value_cache_of(value_PTKD: np.ndarray) -> np.ndarray:
    """``[pages, 16, kv_heads, head_dim]`` fp32 quantised, four positions a word."""
    return _int8_cache_of(value_PTKD, keys=False)


def hadamard_matrix(head_dim: int) -> np.ndarray:
    """Sylvester's matrix of the largest power of two in `head_dim`, repeated on the diagonal."""
    size = head_dim & -head_dim
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.kron(np.eye(head_dim // size, dtype=np.float32), matrix)


def _int8_cache_of(rows_PTKD: np.ndarray, *, keys: bool) -> np.ndarray:
    pages, offsets, kv_heads, head_dim = rows_PTKD.shape
    scales_PTK = (np.abs(rows_PTKD).max(axis=-1) / 127).astype(np.float32)
    codes_PTKD = np.nan_to_num(np.rint(rows_PTKD / np.maximum(scales_PTK, 1e-30)[..., None]))
    cache = np.empty((pages, kv_heads, head_dim // 4 + 1, 64), np.int8)
    for t in range(offsets):
        for d in range(head_dim):
            value_place = (t // 4 * (head_dim // 16) + d // 16, d % 16 * 4 + t % 4)
            line, byte = (d // 4, t * 4 + d % 4) if keys else value_place
            cache[:, :, line, byte] = codes_PTKD[:, t, :, d]
    cache[:, :, -1] = np.ascontiguousarray(scales_PTK.transpose(0, 2, 1)).view(np.int8)
    return cache
