"""``relax.tvm_vacc.kv_append``: write new keys and values into the paged cache, in place."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.kv_cache import (
    CACHE_DTYPES,
    key_cache_shape,
    kv_append_kernel,
    value_cache_shape,
)
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops._registry import flatten_leading, register_op, tensor_type


def kv_append_reference(
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    slots: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of the caches with every token written to its slot.

    Args:
        key_cache: ``[pages, kv_heads, head_dim, 16]`` fp32, fp16 or bf16.
        value_cache: ``[pages, kv_heads, 16, head_dim]``, of the same dtype.
        key: ``[batch, seq, kv_heads, head_dim]`` fp32, rounded to nearest even; `value` likewise.
        slots: ``[batch * seq]`` int32, ``page * 16 + offset``; a negative slot is skipped.
    """
    key_cache, value_cache = key_cache.copy(), value_cache.copy()
    token_shape = (-1, *key.shape[-2:])
    for slot, k, v in zip(slots, key.reshape(token_shape), value.reshape(token_shape), strict=True):
        if slot >= 0:
            page, offset = divmod(int(slot), PAGE_SIZE)
            key_cache[page, :, :, offset] = k.astype(key_cache.dtype)
            value_cache[page, :, offset, :] = v.astype(value_cache.dtype)
    return key_cache, value_cache


def _infer(call: relax.Call) -> relax.TupleType:
    key_cache, value_cache = tensor_type(call.args[0], rank=4), tensor_type(call.args[1], rank=4)
    key, value = tensor_type(call.args[2]), tensor_type(call.args[3])
    tensor_type(call.args[4], rank=1)
    kv_heads, head_dim = int(key.shape[-2]), int(key.shape[-1])
    if [int(dim) for dim in list(value.shape)[-2:]] != [kv_heads, head_dim]:
        raise TypeError(f"kv_append: value {value} does not fit key {key}")
    for cache, shape in ((key_cache, key_cache_shape), (value_cache, value_cache_shape)):
        if [int(dim) for dim in list(cache.shape)[1:]] != list(shape(1, kv_heads, head_dim)[1:]):
            raise TypeError(f"kv_append: cache {cache} does not fit {key}")
        if cache.dtype not in CACHE_DTYPES or cache.dtype != key_cache.dtype:
            raise TypeError(f"kv_append: caches are {key_cache.dtype} and {value_cache.dtype}")
    return relax.TupleType([key_cache, value_cache])


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    key_cache, value_cache, key, value, slots = call.args
    key = flatten_leading(builder, key, keep=2)
    value = flatten_leading(builder, value, keep=2)
    cache_ty = tensor_type(key_cache)
    _, kv_heads, head_dim = tensor_type(key, rank=3).shape
    kernel = kv_append_kernel(int(kv_heads), int(head_dim), cache_ty.dtype)
    return builder.emit(
        relax.op.call_tir_inplace(
            builder.add_func(kernel, "kv_append"),
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
