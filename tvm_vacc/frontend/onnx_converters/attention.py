"""ONNX Attention (opset 23 to 25), decomposed into two products and a softmax.

The decomposition is the one that eager exporters write (repeat_kv by broadcasting, scale on the
scores, an additive mask), so that one fusion pass serves both.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._attention_bias import (
    cast,
    mask_bias,
    position_biases,
    score,
    weigh,
    work_dtype,
)
from tvm_vacc.frontend.onnx_converters._heads import merge_heads, split_heads

_Bb: TypeAlias = relax.BlockBuilder


class Attention(OnnxOpConverter):
    """Inputs: Q, K, V as ``[batch, heads, seq, head_dim]`` or ``[batch, seq, heads*head_dim]``.

    Optional: attn_mask (boolean or additive, broadcast to ``[batch, heads, seq, total]``; keys
    beyond it are hidden), past_key and past_value ``[batch, kv_heads, past, head_dim]``,
    nonpad_kv_seqlen ``[batch]`` int64. Returns Y, present_key, present_value and the scores after
    the stage that `qk_matmul_output_mode` names. The causal frontier is aligned to the end: query i
    sees ``past + i``. Values of 16 bits are multiplied and added up in fp32. A query that sees no
    key has the result zero.
    """

    @classmethod
    def _impl_v23(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        query, key, value, mask, past_key, past_value, lengths_B = (inputs[i] for i in range(7))
        flat = len(query.ty.shape) == 3
        if flat:
            query = split_heads(bb, query, int(attr["q_num_heads"]))
            key = split_heads(bb, key, int(attr["kv_num_heads"]))
            value = split_heads(bb, value, int(attr["kv_num_heads"]))
        past = 0
        if past_key is not None:
            past = past_key.ty.shape[2]
            key = bb.emit(relax.op.concat([past_key, key], axis=2))
            value = bb.emit(relax.op.concat([past_value, value], axis=2))
        seq, head_dim = list(query.ty.shape)[2:]
        total = key.ty.shape[2]
        work = work_dtype(query)
        biases = position_biases(
            bb,
            seq,
            total,
            past,
            lengths_B,
            work,
            causal=bool(attr.get("is_causal", 0)),
            left=int(attr.get("left_window_size", -1)),
            right=int(attr.get("right_window_size", -1)),
        )
        if mask is not None:
            biases.append(mask_bias(bb, mask, total, work))
        scale = float(attr.get("scale", 1.0 / math.sqrt(int(head_dim))))
        # In a language model with a cache the mask is proven to be the causal one.
        cached = any(name.startswith("past_key_values.") for name in params[0])
        cap = float(attr.get("softcap", 0.0))
        stages = score(bb, query, key, biases, scale, cap, blind_rows=not cached)
        output = weigh(bb, stages.weights, value, query)
        if flat:
            output = merge_heads(bb, output)
        results = [output, key, value]
        if attr["tvm_custom"]["num_outputs"] > 3:
            asked = (stages.scaled, stages.capped, stages.biased, stages.weights)
            stage = asked[int(attr.get("qk_matmul_output_mode", 0))]
            results.append(cast(bb, stage, str(query.ty.dtype)))
        return relax.Tuple(results[: max(1, attr["tvm_custom"]["num_outputs"])])
