"""The paged KV cache: its layout, and the kernel that appends new positions to it.

A page holds `PAGE_SIZE` = 16 consecutive positions of one sequence, in words of 32 bits: one fp32
value, or a pair of 16-bit ones, as the dot-product instructions want their operands. Keys pair two
neighbours of head_dim and stand position last, so that the scores of a page are one vector of 16
lanes and need no transposition; values pair two neighbouring positions and stand head_dim last, so
that their weighted sum is a row of vectors. A slot is ``page * 16 + offset``.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.parallel import for_each
from tvm_vacc.limits import PAGE_SIZE

WORD_VALUES = {"float32": 1, "float16": 2, "bfloat16": 2}
"""What keys and values may be stored as, and how many of them are one word."""


def key_cache_shape(pages: Any, kv_heads: int, head_dim: int, dtype: str) -> tuple[Any, ...]:
    """Shape of the key cache of one layer: ``[pages, kv_heads, head_dim / w, 16 * w]``.

    With `w` values a word, dimension `d` at offset `t` is at ``[d // w, t * w + d % w]``.
    """
    pack = WORD_VALUES[dtype]
    return (pages, kv_heads, head_dim // pack, PAGE_SIZE * pack)


def value_cache_shape(pages: Any, kv_heads: int, head_dim: int, dtype: str) -> tuple[Any, ...]:
    """Shape of the value cache of one layer: ``[pages, kv_heads, 16 / w, head_dim * w]``.

    With `w` values a word, dimension `d` at offset `t` is at ``[t // w, d * w + t % w]``.
    """
    pack = WORD_VALUES[dtype]
    return (pages, kv_heads, PAGE_SIZE // pack, head_dim * pack)


def kv_append_kernel(kv_heads: int, head_dim: int, cache_dtype: str) -> tirx.PrimFunc:
    """Kernel ``(key_NKD fp32, value_NKD fp32, slots_N int32, key_cache, value_cache)``.

    Writes both caches in place, rounding to nearest even; a token of negative slot is skipped.
    Slots of one call are distinct.
    """
    pack = WORD_VALUES[cache_dtype]
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("kv_append")
        T.func_attr({"tirx.noalias": True})
        names = ("key", "value", "slots", "key_cache", "value_cache")
        handles = [T.arg(name, T.handle()) for name in names]
        tokens, pages = T.int64(), T.int64()
        key_shape = key_cache_shape(pages, kv_heads, head_dim, cache_dtype)
        value_shape = value_cache_shape(pages, kv_heads, head_dim, cache_dtype)
        key = T.match_buffer(handles[0], (tokens, kv_heads, head_dim), "float32")
        value = T.match_buffer(handles[1], (tokens, kv_heads, head_dim), "float32")
        slots = T.match_buffer(handles[2], (tokens,), "int32")
        key_cache = T.match_buffer(handles[3], key_shape, cache_dtype)
        value_cache = T.match_buffer(handles[4], value_shape, cache_dtype)

        def one_token(token: Any) -> None:
            slot = T.bind(T.cast(slots[token], "int64"))  # a large cache passes 2^31 elements
            page, offset = slot // PAGE_SIZE, slot % PAGE_SIZE
            with T.If(slot >= 0), T.Then(), T.serial(0, kv_heads) as head:
                with T.serial(0, head_dim) as d:
                    stored = _narrow(key[token, head, d], cache_dtype)
                    place = [page, head, d // pack, offset * pack + d % pack]
                    T.buffer_store(key_cache, stored, place)
                with T.serial(0, head_dim) as d:
                    stored = _narrow(value[token, head, d], cache_dtype)
                    place = [page, head, offset // pack, d * pack + offset % pack]
                    T.buffer_store(value_cache, stored, place)

        for_each(tokens, kv_heads * head_dim * 16, one_token)
    return builder.get()


def _narrow(x: tirx.Expr, dtype: str) -> tirx.Expr:
    """Round fp32 to `dtype`, to nearest even; NaN stays NaN.

    TVM 0.27 rounds to bf16 by adding to the bits, which takes the highest NaNs to zero: they are
    replaced by the usual one first.
    """
    if dtype == "bfloat16":
        magnitude = T.reinterpret("uint32", x) & T.uint32(0x7FFFFFFF)
        x = T.Select(magnitude > T.uint32(0x7F800000), T.float32("nan"), x)
    return T.cast(x, dtype)
