"""What the attention operators of ONNX and com.microsoft have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from tvm import relax, tirx

from tvm_vacc.frontend.onnx_converters._heads import repeat_heads

_Bb: TypeAlias = relax.BlockBuilder


@dataclass(frozen=True)
class Stages:
    """The scores ``[batch, heads, seq, total]`` on their way, for those who ask for them."""

    scaled: relax.Expr
    capped: relax.Expr
    biased: relax.Expr
    weights: relax.Expr


def attend(
    bb: _Bb,
    query: relax.Expr,
    key: relax.Expr,
    value: relax.Expr,
    biases: list[relax.Expr],
    scale: float,
    softcap: float = 0.0,
    sink_H: relax.Expr | None = None,
) -> relax.Expr:
    """Return ``softmax(query key^T * scale + biases) value``, ``[batch, heads, seq, head_dim]``.

    See `score` for the arguments.
    """
    stages = score(bb, query, key, biases, scale, softcap, sink_H=sink_H)
    return weigh(bb, stages.weights, value, query)


def score(
    bb: _Bb,
    query: relax.Expr,
    key: relax.Expr,
    biases: list[relax.Expr],
    scale: float,
    softcap: float,
    *,
    blind_rows: bool = False,
    sink_H: relax.Expr | None = None,
) -> Stages:
    """Return the scores of all queries; 16-bit values are multiplied and added up in fp32.

    Args:
        query: ``[batch, heads, seq, head_dim]``.
        key: ``[batch, kv_heads, total, head_dim]``.
        biases: added to the scores.
        scale: of the scores.
        softcap: what they stay within; 0 for no limit.
        blind_rows: a query that may see no key gets weights of zero.
        sink_H: the score ``[heads]`` of one more key, which takes its weight and gives no value.
    """
    work = work_dtype(query)
    groups = int(query.ty.shape[1]) // int(key.ty.shape[1])
    key_BHTD = repeat_heads(bb, cast(bb, key, work), groups)
    key_BHDT = bb.emit(relax.op.permute_dims(key_BHTD, [0, 1, 3, 2]))
    scores = bb.emit(relax.op.matmul(cast(bb, query, work), key_BHDT))
    scaled = capped = bb.emit(relax.op.multiply(scores, relax.const(scale, work)))
    if softcap:
        limit = relax.const(softcap, work)
        bent = bb.emit(relax.op.tanh(bb.emit(relax.op.divide(scaled, limit))))
        capped = bb.emit(relax.op.multiply(bent, limit))
    biased = capped
    for bias in biases:
        biased = bb.emit(relax.op.add(biased, cast(bb, bias, work)))
    if sink_H is None:
        weights = bb.emit(relax.op.nn.softmax(biased, axis=-1))
    else:
        weights = _softmax_with_sink(bb, biased, cast(bb, sink_H, work))
    if blind_rows and biases:
        weights = _without_blind_rows(bb, weights, biases, work)
    return Stages(scaled, capped, biased, weights)


def weigh(bb: _Bb, weights: relax.Expr, value: relax.Expr, query: relax.Expr) -> relax.Expr:
    """Return ``weights value`` in the dtype of `query`."""
    groups = int(query.ty.shape[1]) // int(value.ty.shape[1])
    value_BHTD = repeat_heads(bb, cast(bb, value, work_dtype(query)), groups)
    return cast(bb, bb.emit(relax.op.matmul(weights, value_BHTD)), str(query.ty.dtype))


def work_dtype(query: relax.Expr) -> str:
    """Return what attention on `query` is computed in."""
    dtype = str(query.ty.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def cast(bb: _Bb, x: relax.Expr, dtype: str) -> relax.Expr:
    """Return `x` as `dtype`."""
    return x if x.ty.dtype == dtype else bb.emit(relax.op.astype(x, dtype))


def additive(bb: _Bb, visible: relax.Expr, dtype: str) -> relax.Expr:
    """Return 0 where `visible`, minus infinity elsewhere."""
    zero, hidden = relax.const(0.0, dtype), relax.const(-math.inf, dtype)
    return bb.emit(relax.op.where(visible, zero, hidden))


def mask_bias(bb: _Bb, mask: relax.Expr, total: Any, dtype: str) -> relax.Expr:
    """Return the mask in additive form, as wide as there are keys."""
    is_bool = mask.ty.dtype == "bool"
    bias = additive(bb, mask, dtype) if is_bool else cast(bb, mask, dtype)
    width = bias.ty.shape[-1]
    if isinstance(width, tirx.IntImm) and isinstance(total, tirx.IntImm) and width < total:
        pads = [0] * (2 * len(bias.ty.shape) - 1) + [int(total) - int(width)]
        bias = bb.emit(relax.op.nn.pad(bias, pads, pad_value=-math.inf))
    return bias


def position_biases(
    bb: _Bb,
    seq: Any,
    total: Any,
    past: Any,
    lengths_B: relax.Expr | None,
    dtype: str,
    *,
    causal: bool = False,
    left: int = -1,
    right: int = -1,
) -> list[relax.Expr]:
    """Return what hides keys by where they stand, ``[seq, total]`` or ``[batch, 1, seq, total]``.

    Args:
        seq: number of queries.
        total: number of keys.
        past: position of the first query, where all rows have the same.
        lengths_B: number of keys in use ``[batch]``; the last one is that of the last query.
        dtype: of the biases.
        causal: query i sees the keys up to its own.
        left: how many keys before its own a query sees; -1 for all.
        right: how many after its own.
    """
    key_T = bb.emit(relax.op.arange(0, total, 1, "int64"))
    biases = []
    if causal or left >= 0 or right >= 0:
        if lengths_B is None:
            query_S = bb.emit(relax.op.arange(past, past + seq, 1, "int64"))
            query = bb.emit(relax.op.expand_dims(query_S, 1))
        else:
            query_S = bb.emit(relax.op.arange(0, seq, 1, "int64"))
            query_S1 = bb.emit(relax.op.expand_dims(query_S, 1))
            length = as_number(bb, seq)
            start = bb.emit(relax.op.subtract(_per_batch(bb, lengths_B), length))
            query = bb.emit(relax.op.add(query_S1, start))
        key = bb.emit(relax.op.expand_dims(key_T, 0))
        if causal:
            biases.append(additive(bb, bb.emit(relax.op.less_equal(key, query)), dtype))
        if left >= 0:
            oldest = bb.emit(relax.op.subtract(query, relax.const(left, "int64")))
            biases.append(additive(bb, bb.emit(relax.op.greater_equal(key, oldest)), dtype))
        if right >= 0:
            newest = bb.emit(relax.op.add(query, relax.const(right, "int64")))
            biases.append(additive(bb, bb.emit(relax.op.less_equal(key, newest)), dtype))
    if lengths_B is not None:
        used = bb.emit(relax.op.less(key_T, _per_batch(bb, lengths_B)))
        biases.append(additive(bb, used, dtype))
    return biases


def as_number(bb: _Bb, dim: Any) -> relax.Expr:
    """Return a dimension as ``[]`` int64."""
    if isinstance(dim, int | tirx.IntImm):
        return relax.const(int(dim), "int64")
    size = bb.emit(relax.op.shape_to_tensor(bb.normalize(relax.ShapeExpr([dim]))))
    return bb.emit(relax.op.reshape(size, []))


def _per_batch(bb: _Bb, lengths_B: relax.Expr) -> relax.Expr:
    return bb.emit(relax.op.expand_dims(cast(bb, lengths_B, "int64"), [1, 2, 3]))


def _softmax_with_sink(bb: _Bb, scores: relax.Expr, sink_H: relax.Expr) -> relax.Expr:
    batch, heads, seq, total = scores.ty.shape
    sink = bb.emit(relax.op.reshape(sink_H, [1, heads, 1, 1]))
    column = bb.emit(relax.op.broadcast_to(sink, [batch, heads, seq, 1]))
    wide = bb.emit(relax.op.concat([scores, column], axis=3))
    weights = bb.emit(relax.op.nn.softmax(wide, axis=-1))
    return bb.emit(relax.op.strided_slice(weights, [3], [0], [total], assume_inbound=True))


def _without_blind_rows(
    bb: _Bb, weights: relax.Expr, biases: list[relax.Expr], dtype: str
) -> relax.Expr:
    """Give the queries that may see no key weights of zero; softmax makes them no numbers."""
    bias = biases[0]
    for other in biases[1:]:
        bias = bb.emit(relax.op.add(bias, other))
    best = bb.emit(relax.op.max(bias, -1, keepdims=True))
    # TVM's maximum begins at the lowest finite value, not at minus infinity.
    lowest = relax.const(np.finfo(dtype).min, dtype)
    is_blind = bb.emit(relax.op.less_equal(best, lowest))
    return bb.emit(relax.op.where(is_blind, relax.const(0.0, dtype), weights))
