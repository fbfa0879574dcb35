"""``relax.tvm_vacc.gqa_attention``: causal attention of query groups over the paged KV cache.

Grouped-query attention: Ainslie et al., 2023. Every row (sequence) of the batch has its own number
of new tokens and its own context, so that prefill, chunked prefill, decode and a mixed batch are
one call.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.attention_tiles import Attention, attention_kernel, read_attention_tiles
from schedules.isa import PRODUCTS, current_isa
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops._chosen_tiles import chosen_tiles
from tvm_vacc.ops._kv_layout import check_caches
from tvm_vacc.ops._registry import (
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)
from tvm_vacc.ops.kv_gather import kv_gather_reference


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
        key_cache: fp32, fp16, bf16 or int8 in the layout of `schedules.kv_cache`.
        value_cache: likewise, of the same dtype.
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
        pages = page_table[row : row + 1, : -(-kv_len // PAGE_SIZE)]
        dense = (1, kv_heads, pages.size * PAGE_SIZE, head_dim)
        [key_KCD], [value_KCD] = kv_gather_reference(key_cache, value_cache, pages, dense)
        for token in range(first, last):
            seen = kv_len - (last - token) + 1
            for head in range(heads if seen > 0 else 0):
                kv_head = head // (heads // kv_heads)
                key_CD = key_KCD[kv_head, :seen].astype(np.float64)
                scores_C = key_CD @ query_NHD[token, head] * scale
                weights_C = np.exp(scores_C - scores_C.max())
                weights_C /= weights_C.sum()
                out_NHD[token, head] = weights_C @ value_KCD[kv_head, :seen].astype(np.float64)
    return out_NHD.astype(np.float32).reshape(query.shape)


def _infer(call: relax.Call) -> relax.TensorType:
    query, key_cache = tensor_type(call.args[0]), tensor_type(call.args[1], rank=4)
    tensor_type(call.args[3], rank=2)
    tensor_type(call.args[4], rank=1)
    tensor_type(call.args[5], rank=1)
    heads, head_dim = int(query.shape[-2]), int(query.shape[-1])
    kv_heads = int(key_cache.shape[1])
    if heads % kv_heads:
        raise TypeError(f"gqa_attention: {heads} query heads over {kv_heads} KV heads")
    check_caches("gqa_attention", call.args[1:3], kv_heads, head_dim)
    if call.attrs["products"] not in PRODUCTS:
        raise TypeError(f"gqa_attention: there are no products in {call.attrs['products']}")
    return relax.TensorType(query.shape, "float32")


def attention_of(call: relax.Call) -> Attention:
    """Return what the kernel of a call is made for."""
    query, cache = tensor_type(call.args[0]), tensor_type(call.args[1])
    return Attention(
        str(cache.dtype),
        heads=int(query.shape[-2]),
        kv_heads=int(cache.shape[1]),
        head_dim=int(query.shape[-1]),
        products=str(call.attrs["products"]),
    )


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    query = flatten_leading(builder, call.args[0], keep=2)
    flat_ty = tensor_type(query, rank=3)
    attention, isa = attention_of(call), current_isa()
    tiles = read_attention_tiles(chosen_tiles(call), attention, isa)
    kernel = attention_kernel(attention, float(call.attrs["scale"]), isa, tiles)
    out = call_kernel(builder, kernel, "gqa_attention", [query, *call.args[1:]], flat_ty)
    return restore_leading(builder, out, call.ty)


gqa_attention = register_op(
    "gqa_attention",
    describe="Causal GQA over the paged cache: query [..., H, D]; scale, products, optional tiles.",
    infer_type=_infer,
    legalize=_legalize,
    reference=gqa_attention_reference,
)
