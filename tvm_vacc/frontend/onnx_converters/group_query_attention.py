"""com.microsoft's GroupQueryAttention, decomposed as ONNX's Attention is.

Source: ONNX Runtime, docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from tvm import relax, te, tirx
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._attention_bias import as_number, attend, position_biases
from tvm_vacc.frontend.onnx_converters._heads import merge_heads, split_heads
from tvm_vacc.frontend.onnx_converters.rotary_embedding import rotate

_Bb: TypeAlias = relax.BlockBuilder
_INPUTS = 12


class GroupQueryAttention(OnnxOpConverter):
    """Inputs: query ``[batch, seq, heads*dim]``, key and value ``[batch, seq, kv_heads*dim]``.

    Or all three side by side in query. Further: past_key and past_value
    ``[batch, kv_heads, past, dim]``, seqlens_k ``[batch]`` int32 (keys of the row, less one),
    total_sequence_length, cos_cache and sin_cache ``[positions, rotary_dim/2]``, position_ids
    ``[batch, seq]``, attention_bias ``[batch or 1, heads or 1, seq, total]``, head_sink
    ``[heads]``: one more key's score, which smooth_softmax has be 0. Rows of a batch may have pasts
    of different lengths: their new keys follow their own. Returns output and the presents
    ``[batch, kv_heads, past + seq, dim]``.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        query, key, value, past_key, past_value, last_B, _, cos, sin, *further = (
            inputs[i] for i in range(_INPUTS)
        )
        position_BS, scores_bias, sink_H = further
        heads, kv_heads = int(attr["num_heads"]), int(attr["kv_num_heads"])
        if key is None:
            query, key, value = _unpacked(bb, query, heads, kv_heads)
        query = split_heads(bb, query, heads)
        key, value = (split_heads(bb, x, kv_heads) for x in (key, value))
        seq, head_dim = query.ty.shape[2], query.ty.shape[3]
        one, length = relax.const(1, "int64"), as_number(bb, seq)
        last_B = bb.emit(relax.op.reshape(last_B, [query.ty.shape[0]]))
        total_B = bb.emit(relax.op.add(bb.emit(relax.op.astype(last_B, "int64")), one))
        past_B = bb.emit(relax.op.subtract(total_B, length))
        if past_key is None:  # a prompt: its rows begin at 0, and short ones are padded at the end
            past_B = bb.emit(relax.op.zeros_like(past_B))
        if attr.get("do_rotary", 0):
            interleaved = bool(attr.get("rotary_interleaved", 0))
            if position_BS is None:
                step_S = bb.emit(relax.op.arange(0, seq, 1, "int64"))
                step_1S = bb.emit(relax.op.expand_dims(step_S, 0))
                start_B1 = bb.emit(relax.op.expand_dims(past_B, 1))
                position_BS = bb.emit(relax.op.add(start_B1, step_1S))
            cos_BSR, sin_BSR = (bb.emit(relax.op.take(x, position_BS, axis=0)) for x in (cos, sin))
            width = 2 * int(cos.ty.shape[1])
            query = rotate(bb, query, cos_BSR, sin_BSR, width, interleaved)
            key = rotate(bb, key, cos_BSR, sin_BSR, width, interleaved)
        if past_key is not None:
            key, value = _follow(bb, past_key, key, past_B), _follow(bb, past_value, value, past_B)
        window = int(attr.get("local_window_size", -1))
        dtype = "float32" if query.ty.dtype == "float16" else str(query.ty.dtype)
        end_B = bb.emit(relax.op.add(past_B, length))
        biases = position_biases(
            bb,
            seq,
            key.ty.shape[2],
            0,
            end_B,
            dtype,
            causal=True,
            left=window - 1 if window > 0 else -1,
        )
        if scores_bias is not None:
            biases.append(scores_bias)
        scale = float(attr.get("scale", 0.0)) or 1.0 / math.sqrt(int(head_dim))
        softcap = float(attr.get("softcap", 0.0))
        if sink_H is None and attr.get("smooth_softmax", 0):
            sink_H = relax.const(np.zeros(heads), dtype)
        attended = attend(bb, query, key, value, biases, scale, softcap, sink_H)
        output = merge_heads(bb, attended)
        return relax.Tuple([output, key, value][: max(1, attr["tvm_custom"]["num_outputs"])])


def _unpacked(bb: _Bb, packed: relax.Expr, heads: int, kv_heads: int) -> list[relax.Expr]:
    head_dim = int(packed.ty.shape[2]) // (heads + 2 * kv_heads)
    cuts = [0, heads * head_dim, (heads + kv_heads) * head_dim, int(packed.ty.shape[2])]
    return [
        bb.emit(relax.op.strided_slice(packed, [2], [begin], [end]))
        for begin, end in pairwise(cuts)
    ]


def _follow(bb: _Bb, past_BKPD: relax.Expr, new_BKSD: relax.Expr, past_B: relax.Expr) -> relax.Expr:
    """Put each row's new keys behind its own old ones; zeros after them."""
    batch, kv_heads, past, head_dim = past_BKPD.ty.shape
    seq = new_BKSD.ty.shape[2]

    def kernel(old: te.Tensor, new: te.Tensor, start: te.Tensor) -> te.Tensor:
        def element(b: tirx.Var, k: tirx.Var, t: tirx.Var, d: tirx.Var) -> tirx.Expr:
            step = t - start[b]
            is_new = tirx.all(step >= 0, step < seq)
            zero = tirx.const(0, old.dtype)
            fresh = tirx.if_then_else(is_new, new[b, k, step, d], zero)
            is_old = tirx.all(t < start[b], t < past)
            return tirx.if_then_else(is_old, old[b, k, t, d], fresh)

        return te.compute((batch, kv_heads, past + seq, head_dim), element, name="follow")

    return bb.emit_te(kernel, past_BKPD, new_BKSD, past_B)
