"""ONNX Attention (opset 23), decomposed into two products and a softmax.

The decomposition is the one that eager exporters write (repeat_kv by broadcasting, scale on the
scores, an additive mask), so that one fusion pass serves both.
"""

from __future__ import annotations

import math
from typing import Any

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

_UNSUPPORTED = ("softcap", "left_window_size", "right_window_size")


class Attention(OnnxOpConverter):
    """Inputs: Q, K, V as ``[batch, heads, seq, head_dim]`` or ``[batch, seq, heads*head_dim]``.

    Optional: attn_mask (boolean or additive, broadcast to ``[batch, heads, seq, total]``),
    past_key and past_value ``[batch, kv_heads, past, head_dim]``. Returns Y, present_key,
    present_value. The causal frontier is aligned to the end: query i sees ``past + i``.

    Raises:
        NotImplementedError: softcap, windows, nonpad_kv_seqlen or the fourth output are used.
    """

    @classmethod
    def _impl_v23(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        query, key, value, mask, past_key, past_value = (inputs[i] for i in range(6))
        used = [name for name in _UNSUPPORTED if attr.get(name, -1) not in (-1, 0, 0.0)]
        if used or inputs[6] is not None or attr["tvm_custom"]["num_outputs"] > 3:
            raise NotImplementedError(
                f"Attention with {', '.join(used) or 'padding lengths or a fourth output'}"
            )
        flat = len(query.ty.shape) == 3
        if flat:
            query = _split_heads(bb, query, int(attr["q_num_heads"]))
            key = _split_heads(bb, key, int(attr["kv_num_heads"]))
            value = _split_heads(bb, value, int(attr["kv_num_heads"]))
        past = 0
        if past_key is not None:
            past = past_key.ty.shape[2]
            key = bb.emit(relax.op.concat([past_key, key], axis=2))
            value = bb.emit(relax.op.concat([past_value, value], axis=2))
        batch, heads, seq, head_dim = query.ty.shape
        groups = int(heads) // int(key.ty.shape[1])
        dtype = query.ty.dtype
        scale = float(attr.get("scale", 1.0 / math.sqrt(int(head_dim))))

        key_T = bb.emit(relax.op.permute_dims(_repeat(bb, key, groups), [0, 1, 3, 2]))
        scores = bb.emit(relax.op.matmul(query, key_T))
        scores = bb.emit(relax.op.multiply(scores, relax.const(scale, dtype)))
        if attr.get("is_causal", 0):
            causal = _causal_mask(bb, seq, key.ty.shape[2], past, dtype)
            scores = bb.emit(relax.op.add(scores, causal))
        if mask is not None:
            if mask.ty.dtype == "bool":
                mask = _additive(bb, mask, dtype)
            scores = bb.emit(relax.op.add(scores, mask))
        weights = bb.emit(relax.op.nn.softmax(scores, axis=-1))
        output = bb.emit(relax.op.matmul(weights, _repeat(bb, value, groups)))
        if flat:
            output = bb.emit(relax.op.permute_dims(output, [0, 2, 1, 3]))
            width = int(heads) * int(value.ty.shape[3])
            output = bb.emit(relax.op.reshape(output, [batch, seq, width]))
        return relax.Tuple([output, key, value][: max(1, attr["tvm_custom"]["num_outputs"])])


def _split_heads(bb: relax.BlockBuilder, x_BSF: relax.Expr, heads: int) -> relax.Expr:
    batch, seq, width = x_BSF.ty.shape
    x_BSHD = bb.emit(relax.op.reshape(x_BSF, [batch, seq, heads, int(width) // heads]))
    return bb.emit(relax.op.permute_dims(x_BSHD, [0, 2, 1, 3]))


def _repeat(bb: relax.BlockBuilder, x_BKTD: relax.Expr, groups: int) -> relax.Expr:
    """Repeat every KV head `groups` times, neighbours first: ``[h0, h0, h1, h1]``."""
    if groups == 1:
        return x_BKTD
    batch, kv_heads, total, head_dim = x_BKTD.ty.shape
    x_BK1TD = bb.emit(relax.op.expand_dims(x_BKTD, 2))
    x_BKGTD = bb.emit(relax.op.broadcast_to(x_BK1TD, [batch, kv_heads, groups, total, head_dim]))
    return bb.emit(relax.op.reshape(x_BKGTD, [batch, kv_heads * groups, total, head_dim]))


def _additive(bb: relax.BlockBuilder, visible: relax.Expr, dtype: Any) -> relax.Expr:
    zero, hidden = relax.const(0.0, dtype), relax.const(-math.inf, dtype)
    return bb.emit(relax.op.where(visible, zero, hidden))


def _causal_mask(bb: relax.BlockBuilder, seq: Any, total: Any, past: Any, dtype: Any) -> relax.Expr:
    """``[seq, total]``: 0 where ``key <= past + query``, minus infinity elsewhere."""
    query_S = bb.emit(relax.op.arange(past, past + seq, 1, "int64"))
    query_S1 = bb.emit(relax.op.expand_dims(query_S, 1))
    key_T = bb.emit(relax.op.arange(0, total, 1, "int64"))
    key_1T = bb.emit(relax.op.expand_dims(key_T, 0))
    return _additive(bb, bb.emit(relax.op.less_equal(key_1T, query_S1)), dtype)
