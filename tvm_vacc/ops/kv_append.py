"""``relax.tvm_vacc.kv_append``: write new keys and values into the paged cache, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from schedules.hadamard import hadamard_reference
from schedules.int8_rows import INT8_LEVELS, SMALLEST
from schedules.kv_append import kv_append_kernel
from schedules.kv_cache import WORD_VALUES, CodePlace, int8_key_place, int8_value_place
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops._kv_layout import check_caches
from tvm_vacc.ops._registry import add_kernel, flatten_leading, register_op, tensor_type


def kv_append_reference(
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    slots: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of the caches with every token written to its slot.

    Args:
        key_cache: fp32, fp16, bf16 or int8 in the layout of `schedules.kv_cache`.
        value_cache: likewise, of the same dtype.
        key: ``[batch, seq, kv_heads, head_dim]`` fp32, rounded to nearest even; `value` likewise.
        slots: ``[batch * seq]`` int32, ``page * 16 + offset``; a negative slot is skipped.
    """
    key_cache, value_cache = key_cache.copy(), value_cache.copy()
    token_shape = (-1, *key.shape[-2:])
    if key_cache.dtype == np.int8:
        transformed = hadamard_reference(key).reshape(token_shape)
        _write_codes(key_cache, transformed, slots, int8_key_place)
        _write_codes(value_cache, value.reshape(token_shape), slots, int8_value_place)
        return key_cache, value_cache
    pack = WORD_VALUES[str(key_cache.dtype)]
    for slot, k, v in zip(slots, key.reshape(token_shape), value.reshape(token_shape), strict=True):
        if slot >= 0:
            page, offset = divmod(int(slot), PAGE_SIZE)
            key_word = k.astype(key_cache.dtype).reshape(len(k), -1, pack)
            key_cache[page, :, :, offset * pack : (offset + 1) * pack] = key_word
            value_cache[page, :, offset // pack, offset % pack :: pack] = v
    return key_cache, value_cache


def _write_codes(
    cache: np.ndarray,
    rows_NKD: np.ndarray,
    slots: np.ndarray,
    place_of: Callable[[int, Any, Any], CodePlace],
) -> None:
    """Quantise every row of every head and write its codes and its scale in place."""
    head_dim = rows_NKD.shape[-1]
    amax_NK = np.abs(rows_NKD).max(axis=-1)
    amax_NK = np.where(np.isfinite(amax_NK), amax_NK, np.float32(np.nan))
    divisor_NK = np.where(amax_NK >= SMALLEST, amax_NK, np.float32(np.inf))
    codes_NKD = np.rint(rows_NKD * (np.float32(INT8_LEVELS) / divisor_NK)[..., None])
    scales_NK = (amax_NK / np.float32(INT8_LEVELS)).astype(np.float32)
    scale_bytes_NKB = scales_NK.view(np.int8).reshape(*scales_NK.shape, 4)
    for slot, codes, scale_bytes in zip(slots, codes_NKD, scale_bytes_NKB, strict=True):
        if slot >= 0:
            page, offset = divmod(int(slot), PAGE_SIZE)
            line, byte = place_of(head_dim, np.arange(head_dim), offset)
            cache[page][:, line, byte] = np.nan_to_num(codes)
            cache[page, :, -1, offset * 4 : offset * 4 + 4] = scale_bytes


def _infer(call: relax.Call) -> relax.TupleType:
    key, value = tensor_type(call.args[2]), tensor_type(call.args[3])
    tensor_type(call.args[4], rank=1)
    kv_heads, head_dim = int(key.shape[-2]), int(key.shape[-1])
    if [int(dim) for dim in list(value.shape)[-2:]] != [kv_heads, head_dim]:
        raise TypeError(f"kv_append: value {value} does not fit key {key}")
    caches = check_caches("kv_append", call.args[:2], kv_heads, head_dim)
    return relax.TupleType(list(caches))


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    key_cache, value_cache, key, value, slots = call.args
    key = flatten_leading(builder, key, keep=2)
    value = flatten_leading(builder, value, keep=2)
    cache_ty = tensor_type(key_cache)
    _, kv_heads, head_dim = tensor_type(key, rank=3).shape
    kernel = kv_append_kernel(int(kv_heads), int(head_dim), str(cache_ty.dtype))
    return builder.emit(
        relax.op.call_tir_inplace(
            add_kernel(builder, kernel, "kv_append"),
            [key, value, slots, key_cache, value_cache],
            inplace_indices=[3, 4],
            out_ty=[cache_ty, tensor_type(value_cache)],
        )
    )


kv_append = register_op(
    "kv_append",
    describe="Append keys and values to the paged cache in place; returns the two caches.",
    infer_type=_infer,
    legalize=_legalize,
    reference=kv_append_reference,
)
