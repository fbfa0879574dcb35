"""``relax.tvm_vacc.gqa_attention``: causal attention of query groups over the paged KV cache.

Grouped-query attention: Ainslie et al., 2023. Every row (sequence) of the batch has its own number
of new tokens and its own context, so that prefill, chunked prefill, decode and a mixed batch are
one call.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.gqa_attention import gqa_attention_kernel
from schedules.isa import current_isa
from schedules.kv_cache import CACHE_DTYPES, key_cache_shape, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops._registry import (
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def gqa_attention_reference(
    query: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    page_table: np.ndarray,
    query_start: np.ndarray,
    kv_lens: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Dense softmax attention in fp64, each row gathered from its pages.

    Args:
        query: ``[batch, seq, heads, head_dim]`` fp32; all rows' tokens one after the other.
        key_cache: ``[pages, kv_heads, head_dim, 16]`` fp32, fp16 or bf16.
        value_cache: ``[pages, kv_heads, 16, head_dim]``, of the same dtype.
        page_table: ``[rows, pages_per_row]`` int32.
        query_start: ``[rows + 1]`` int32; row `q` owns tokens ``query_start[q]:query_start[q+1]``.
        kv_lens: ``[rows]`` int32, positions of each row, the new tokens included.
        scale: factor of the scores, ``1 / sqrt(head_dim)`` as a rule.

    Returns:
        As `query`, fp32; tokens of no row, and tokens which see no position, are zero.
    """
    heads, head_dim = query.shape[-2:]
    kv_heads = key_cache.shape[1]
    query_NHD = query.reshape(-1, heads, head_dim).astype(np.float64)
    out_NHD = np.zeros_like(query_NHD)
    for row, kv_len in enumerate(int(length) for length in kv_lens):
        first, last = int(query_start[row]), int(query_start[row + 1])
        pages = page_table[row, : -(-kv_len // PAGE_SIZE)]
        key_CKD = key_cache[pages].transpose(0, 3, 1, 2).reshape(-1, kv_heads, head_dim)
        value_CKD = value_cache[pages].transpose(0, 2, 1, 3).reshape(-1, kv_heads, head_dim)
        for token in range(first, last):
            seen = kv_len - (last - token) + 1
            for head in range(heads if seen > 0 else 0):
                kv_head = head // (heads // kv_heads)
                key_CD = key_CKD[:seen, kv_head].astype(np.float64)
                scores_C = key_CD @ query_NHD[token, head] * scale
                weights_C = np.exp(scores_C - scores_C.max())
                weights_C /= weights_C.sum()
                out_NHD[token, head] = weights_C @ value_CKD[:seen, kv_head].astype(np.float64)
    return out_NHD.astype(np.float32).reshape(query.shape)


def _infer(call: relax.Call) -> relax.TensorType:
    query = tensor_type(call.args[0])
    key_cache, value_cache = (tensor_type(arg, rank=4) for arg in call.args[1:3])
    tensor_type(call.args[3], rank=2)
    tensor_type(call.args[4], rank=1)
    tensor_type(call.args[5], rank=1)
    heads, head_dim = int(query.shape[-2]), int(query.shape[-1])
    kv_heads = int(key_cache.shape[1])
    if heads % kv_heads:
        raise TypeError(f"gqa_attention: {heads} query heads over {kv_heads} KV heads")
    for cache, shape in ((key_cache, key_cache_shape), (value_cache, value_cache_shape)):
        if [int(dim) for dim in list(cache.shape)[1:]] != list(shape(1, kv_heads, head_dim)[1:]):
            raise TypeError(f"gqa_attention: cache {cache} does not fit {query}")
        if cache.dtype not in CACHE_DTYPES or cache.dtype != key_cache.dtype:
            raise TypeError(f"gqa_attention: caches are {key_cache.dtype} and {value_cache.dtype}")
    return relax.TensorType(query.shape, "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    query = flatten_leading(builder, call.args[0], keep=2)
    flat_ty, cache_ty = tensor_type(query, rank=3), tensor_type(call.args[1])
    kernel = gqa_attention_kernel(
        heads=int(flat_ty.shape[1]),
        kv_heads=int(cache_ty.shape[1]),
        head_dim=int(flat_ty.shape[2]),
        cache_dtype=cache_ty.dtype,
        scale=float(call.attrs["scale"]),
        isa=current_isa(),
    )
    out = call_kernel(builder, kernel, "gqa_attention", [query, *call.args[1:]], flat_ty)
    return restore_leading(builder, out, call.ty)


gqa_attention = register_op(
    "gqa_attention",
    describe="Causal GQA over the paged cache: query [B, S, H, D]; attribute scale.",
    infer_type=_infer,
    legalize=_legalize,
    reference=gqa_attention_reference,
)
