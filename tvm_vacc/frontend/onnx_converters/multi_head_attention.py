"""com.microsoft's MultiHeadAttention, decomposed as ONNX's Attention is.

Source: ONNX Runtime, docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter
from tvm.sym import Analyzer

from tvm_vacc.frontend.onnx_converters._attention_bias import attend, position_biases
from tvm_vacc.frontend.onnx_converters._heads import merge_heads, split_heads

_Bb: TypeAlias = relax.BlockBuilder


class MultiHeadAttention(OnnxOpConverter):
    """Inputs: query ``[batch, seq, hidden]``, key and value alike or ``[batch, heads, seq, dim]``.

    Or all of them in query ``[batch, seq, heads, 3, dim]``, or the last two in key
    ``[batch, seq, heads, 2, dim]``. Optional: bias ``[3*hidden]`` of the three projections,
    key_padding_mask ``[batch, total]`` (0 hides a key) or ``[batch]`` (keys of the row),
    attention_bias ``[batch or 1, heads or 1, seq, total]``, past_key and past_value
    ``[batch, heads, past, dim]``. Returns output, present_key, present_value.

    Raises:
        NotImplementedError: a padding mask of offsets is used, or a bias with cached keys as input.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        query, key, value, bias, padding, scores_bias, past_key, past_value = (
            inputs[i] for i in range(8)
        )
        heads = int(attr["num_heads"])
        if key is None:
            query, key, value = _unpacked(bb, query, 3)
        elif value is None:
            key, value = _unpacked(bb, key, 2)
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
            is_key = _is_key(bb, padding, query.ty.shape[0], total)
            filled = bb.emit(relax.op.where(is_key, relax.const(0.0, dtype), hidden))
            biases.append(bb.emit(relax.op.expand_dims(filled, [1, 2])))
        if scores_bias is not None:
            biases.append(scores_bias)
        scale = float(attr.get("scale", 0.0)) or 1.0 / math.sqrt(int(query.ty.shape[3]))
        output = merge_heads(bb, attend(bb, query, key, value, biases, scale))
        return relax.Tuple([output, key, value][: max(1, attr["tvm_custom"]["num_outputs"])])


def _unpacked(bb: _Bb, packed: relax.Expr, count: int) -> list[relax.Expr]:
    """Return what stands side by side in ``[batch, seq, heads, count, dim]``, each with hidden."""
    batch, seq, heads, _, dim = packed.ty.shape
    parts = bb.emit(relax.op.split(packed, count, axis=3))
    return [
        bb.emit(relax.op.reshape(bb.emit(relax.TupleGetItem(parts, i)), [batch, seq, heads * dim]))
        for i in range(count)
    ]


def _is_key(bb: _Bb, padding: relax.Expr, batch: Any, total: Any) -> relax.Expr:
    """Return which keys of each row there are, ``[batch, total]`` bool."""
    if len(padding.ty.shape) == 2:
        return bb.emit(relax.op.astype(padding, "bool"))
    if not Analyzer().can_prove_equal(padding.ty.shape[0], batch):
        raise NotImplementedError("MultiHeadAttention with a key_padding_mask of offsets")
    place = bb.emit(relax.op.arange(0, total, 1, str(padding.ty.dtype)))
    return bb.emit(relax.op.less(place, bb.emit(relax.op.expand_dims(padding, 1))))


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
