"""The paged KV cache: its layout.

A page holds `PAGE_SIZE` = 16 consecutive positions of one sequence, in words of 32 bits: one fp32
value, a pair of 16-bit ones or four int8 codes, as the dot-product instructions want their
operands. Keys join neighbours of head_dim to words and stand position last, so that the scores of
a page are one vector of 16 lanes and need no transposition; values join neighbouring positions and
stand head_dim last, so that their weighted sum is a row of vectors. A slot is ``page * 16 +
offset``.

Of int8, keys and values have one fp32 scale a position and head, ``amax / 127``: a value is ``code
* scale``, and so is a key after the Hadamard transform of its head (`schedules.hadamard`), which
the query shares. The 16 scales of a page are the last of its lines of 64 bytes: a position takes
``2 (head_dim + 4)`` bytes a head, 0.516 of those in 16 bits at head_dim 128.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tvm_vacc.limits import PAGE_SIZE

WORD_VALUES = {"float32": 1, "float16": 2, "bfloat16": 2, "int8": 4}
"""What keys and values may be stored as, and how many of them are one word."""

LINE_BYTES = 64
"""Bytes of a line of an int8 page: sixteen words, or the scales of the sixteen positions."""


class CodePlace(NamedTuple):
    """Where a code of an int8 page stands."""

    line: Any
    byte: Any


def key_cache_shape(pages: Any, kv_heads: int, head_dim: int, dtype: str) -> tuple[Any, ...]:
    """Shape of the key cache of one layer: ``[pages, kv_heads, head_dim / w, 16 * w]``.

    With `w` values a word, dimension `d` at offset `t` is at ``[d // w, t * w + d % w]``; of int8
    one more line holds the scales.
    """
    if dtype == "int8":
        return _int8_cache_shape(pages, kv_heads, head_dim)
    pack = WORD_VALUES[dtype]
    return (pages, kv_heads, head_dim // pack, PAGE_SIZE * pack)


def value_cache_shape(pages: Any, kv_heads: int, head_dim: int, dtype: str) -> tuple[Any, ...]:
    """Shape of the value cache of one layer: ``[pages, kv_heads, 16 / w, head_dim * w]``.

    With `w` values a word, dimension `d` at offset `t` is at ``[t // w, d * w + t % w]``. Of int8
    these rows are cut into lines of 64 bytes, and one more line holds the scales.
    """
    if dtype == "int8":
        return _int8_cache_shape(pages, kv_heads, head_dim)
    pack = WORD_VALUES[dtype]
    return (pages, kv_heads, PAGE_SIZE // pack, head_dim * pack)


def position_bytes(kv_heads: int, head_dim: int, dtype: str) -> int:
    """Return the bytes of one position in both caches of one layer, scales included."""
    if dtype == "int8":
        return 2 * kv_heads * (head_dim + 4)
    return 2 * kv_heads * head_dim * 4 // WORD_VALUES[dtype]


def int8_key_place(head_dim: int, dim: Any, offset: Any) -> CodePlace:
    """Return where the code of dimension `dim` of the key at `offset` stands in its page."""
    return CodePlace(dim // 4, offset * 4 + dim % 4)


def int8_value_place(head_dim: int, dim: Any, offset: Any) -> CodePlace:
    """Return where the code of dimension `dim` of the value at `offset` stands in its page."""
    return CodePlace(offset // 4 * (head_dim // 16) + dim // 16, dim % 16 * 4 + offset % 4)


def _int8_cache_shape(pages: Any, kv_heads: int, head_dim: int) -> tuple[Any, ...]:
    return (pages, kv_heads, head_dim // 4 + 1, LINE_BYTES)
