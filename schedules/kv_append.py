"""Appending new keys and values to the paged cache: the kernel, for every dtype of the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.float_bits import INFINITY_BITS, MAGNITUDE_BITS, ROUNDING_MAGIC
from schedules.hadamard import emit_hadamard
from schedules.int8_rows import INT8_LEVELS, inverse_scale, largest_magnitude
from schedules.kv_cache import (
    WORD_VALUES,
    CodePlace,
    int8_key_place,
    int8_value_place,
    key_cache_shape,
    value_cache_shape,
)
from schedules.parallel import for_each
from schedules.registers import LANES, register, splat, vector
from tvm_vacc.limits import PAGE_SIZE


def kv_append_kernel(kv_heads: int, head_dim: int, cache_dtype: str) -> tirx.PrimFunc:
    """Kernel ``(key_NKD fp32, value_NKD fp32, slots_N int32, key_cache, value_cache)``.

    Writes both caches in place, rounding to nearest even; a token of negative slot is skipped.
    Slots of one call are distinct. In int8, a row that holds an infinity or a NaN has the scale
    NaN.
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("kv_append")
        T.func_attr({"tirx.noalias": True})
        names = ("key", "value", "slots", "key_cache", "value_cache")
        handles = [T.arg(name, T.handle()) for name in names]
        tokens, pages = dimension("tokens"), dimension("pages")
        key_shape = key_cache_shape(pages, kv_heads, head_dim, cache_dtype)
        value_shape = value_cache_shape(pages, kv_heads, head_dim, cache_dtype)
        key = match_buffer(handles[0], (tokens, kv_heads, head_dim), "float32")
        value = match_buffer(handles[1], (tokens, kv_heads, head_dim), "float32")
        slots = match_buffer(handles[2], (tokens,), "int32")
        key_cache = match_buffer(handles[3], key_shape, cache_dtype)
        value_cache = match_buffer(handles[4], value_shape, cache_dtype)
        append = _append_codes if cache_dtype == "int8" else _append_floats

        def one_token(token: Any) -> None:
            slot = T.bind(T.cast(slots[token], "int64"))  # a large cache passes 2^31 elements
            place = [slot // PAGE_SIZE, slot % PAGE_SIZE]
            with T.If(slot >= 0), T.Then(), T.serial(0, kv_heads) as head:
                append(key, value, key_cache, value_cache, token, head, *place)

        for_each(tokens, kv_heads * head_dim * 16, one_token)
    return builder.get()


def _append_floats(
    key: tirx.Buffer,
    value: tirx.Buffer,
    key_cache: tirx.Buffer,
    value_cache: tirx.Buffer,
    token: Any,
    head: Any,
    page: Any,
    offset: Any,
) -> None:
    head_dim, dtype = int(key.shape[2]), str(key_cache.dtype)
    pack = WORD_VALUES[dtype]
    with T.serial(0, head_dim) as d:
        stored = _narrow(key[token, head, d], dtype)
        T.buffer_store(key_cache, stored, [page, head, d // pack, offset * pack + d % pack])
    with T.serial(0, head_dim) as d:
        stored = _narrow(value[token, head, d], dtype)
        place = [page, head, offset // pack, d * pack + offset % pack]
        T.buffer_store(value_cache, stored, place)


def _narrow(x: tirx.Expr, dtype: str) -> tirx.Expr:
    """Round fp32 to `dtype`, to nearest even; NaN stays NaN.

    TVM 0.27 rounds to bf16 by adding to the bits, which takes the highest NaNs to zero: they are
    replaced by the usual one first.
    """
    if dtype == "bfloat16":
        magnitude = T.reinterpret("uint32", x) & T.uint32(MAGNITUDE_BITS)
        x = T.Select(magnitude > T.uint32(INFINITY_BITS), T.float32("nan"), x)
    return T.cast(x, dtype)


def _append_codes(
    key: tirx.Buffer,
    value: tirx.Buffer,
    key_cache: tirx.Buffer,
    value_cache: tirx.Buffer,
    token: Any,
    head: Any,
    page: Any,
    offset: Any,
) -> None:
    def row(new: tirx.Buffer) -> list[tirx.Buffer]:
        head_dim = int(new.shape[2])
        return [register(new[token, head, vector(d)]) for d in range(0, head_dim, LANES)]

    key_row = row(key)
    emit_hadamard(key_row)
    _store_codes(key_row, key_cache, [page, head], offset, int8_key_place, whole_words=True)
    _store_codes(row(value), value_cache, [page, head], offset, int8_value_place, whole_words=False)


def _store_codes(
    row: list[tirx.Buffer],
    cache: tirx.Buffer,
    page: list[Any],
    offset: Any,
    place_of: Callable[[int, Any, Any], CodePlace],
    *,
    whole_words: bool,
) -> None:
    """Quantise a row of one head and write its codes and its scale.

    Keys are `whole_words` of the cache, which are written at once; codes of values are apart.
    """
    head_dim = len(row) * LANES
    amax = largest_magnitude(value[vector(0)] for value in row)
    inverse = register(inverse_scale(amax, INT8_LEVELS))
    codes = T.alloc_buffer((head_dim,), "int8")
    for i, value in enumerate(row):
        rounded = value[vector(0)] * inverse[vector(0)] + splat(T.float32(ROUNDING_MAGIC))
        code = T.cast(T.reinterpret(f"int32x{LANES}", rounded), f"int8x{LANES}")
        T.buffer_store(codes, code, [vector(i * LANES)])
    step = WORD_VALUES["int8"] if whole_words else 1
    with T.serial(0, head_dim // step) as i:
        place = place_of(head_dim, i * step, offset)
        stored = codes[T.ramp(i * step, 1, step)] if whole_words else codes[i]
        byte = T.ramp(place.byte, 1, step) if whole_words else place.byte
        T.buffer_store(cache, stored, [*page, place.line, byte])
    scale = T.bind(amax[0] / T.float32(INT8_LEVELS))
    scale_bytes = T.ramp(offset * 4, 1, 4)
    T.buffer_store(cache, T.reinterpret("int8x4", scale), [*page, head_dim // 4, scale_bytes])
