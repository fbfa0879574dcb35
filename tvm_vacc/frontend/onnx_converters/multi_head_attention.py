"""com.microsoft's MultiHeadAttention, decomposed as ONNX's Attention is.

Source: ONNX Runtime, docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._attention_bias import attend, position_biases
from tvm_vacc.frontend.onnx_converters._heads import merge_heads, split_heads

_Bb: TypeAlias = relax.BlockBuilder


class MultiHeadAttention(OnnxOpConverter):
    """Inputs: query ``[batch, seq, hidden]``, key and value alike or ``[batch, heads, seq, dim]``.

    Optional: bias ``[3*hidden]`` of the three projections, key_padding_mask ``[batch, total]``
    (0 hides a key), attention_bias ``[batch or 1, heads or 1, seq, total]``, past_key and
    past_value ``[batch, heads, past, dim]``. Returns output, present_key, present_value.

    Raises:
        NotImplementedError: projections packed into one input, a padding mask of lengths, or
            buffers shared between past and present are used.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        query, key, value, bias, padding, scores_bias, past_key, past_value = (
            inputs[i] for i in range(8)
        )
        heads = int(attr["num_heads"])
        if key is None or value is None or any(inputs[i] is not None for i in range(8, 10)):
            raise NotImplementedError("MultiHeadAttention with packed inputs or shared buffers")
        if padding is not None and len(padding.ty.shape) != 2:
            raise NotImplementedError("MultiHeadAttention with a key_padding_mask of lengths")
        if bias is not None:
            query, key, value = _biased(bb, query, key, value, bias)
        query = split_heads(bb, query, heads)
        key, value = (
            x if len(x.ty.shape) == 4 else split_heads(bb, x, heads) for x in (key, value)
        )
        past = 0
        if past_key is not None:
            past = past_key.ty.shape[2]
            key = bb.emit(relax.op.concat([past_key, key], axis=2))
            value = bb.emit(relax.op.concat([past_value, value], axis=2))
        seq, total, dtype = query.ty.shape[2], key.ty.shape[2], str(query.ty.dtype)
        causal = bool(attr.get("unidirectional", 0))
        biases = position_biases(bb, seq, total, past, None, dtype, causal=causal)
        if padding is not None:
            # Not minus infinity: a row in which all keys are hidden stays a mean of them all.
            hidden = relax.const(float(attr.get("mask_filter_value", -10000.0)), dtype)
            is_key = bb.emit(relax.op.astype(padding, "bool"))
            filled = bb.emit(relax.op.where(is_key, relax.const(0.0, dtype), hidden))
            biases.append(bb.emit(relax.op.expand_dims(filled, [1, 2])))
        if scores_bias is not None:
            biases.append(scores_bias)
        scale = float(attr.get("scale", 0.0)) or 1.0 / math.sqrt(int(query.ty.shape[3]))
        output = merge_heads(bb, attend(bb, query, key, value, biases, scale))
        return relax.Tuple([output, key, value][: max(1, attr["tvm_custom"]["num_outputs"])])


def _biased(
    bb: _Bb, query: relax.Expr, key: relax.Expr, value: relax.Expr, bias: relax.Expr
) -> list[relax.Expr]:
    """Add the thirds of `bias` to the inputs that are projections, not cached heads."""
    begin, results = 0, []
    for x in (query, key, value):
        if len(x.ty.shape) != 3:
            raise NotImplementedError("MultiHeadAttention with a bias and cached keys as input")
        end = begin + int(x.ty.shape[2])
        third = bb.emit(relax.op.strided_slice(bias, [0], [begin], [end]))
        results.append(bb.emit(relax.op.add(x, third)))
        begin = end
    return results
