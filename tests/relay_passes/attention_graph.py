"""An exporter's attention over a concatenated cache, with one detail changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import ir, relax

from tests.relay_passes.build import dim, module

HEADS, WIDTH, SCALE = 4, 16, 0.25


def attention(
    mask: str = "additive",
    scale_on: str = "scores",
    kv_heads: int = 2,
    softmax_axis: int = -1,
    repeat: str = "each",
    layers: int = 1,
    values_of: str = "own layer",
    returned: bool = True,
    positions_from: Callable[..., relax.Expr] | None = None,
    width: int = WIDTH,
) -> ir.IRModule:
    """``main(input_ids, position_ids, past..., ) -> (attended..., present...)``.

    Each layer takes query, key and value ``[batch, heads, seq, WIDTH]`` as computed from a table.
    """
    batch, seq, past = dim("batch"), dim("seq"), dim("past")
    total, groups = past + seq, HEADS // kv_heads

    def body(emit: Any, ids: relax.Var, positions: relax.Var, *rest: relax.Var) -> Any:
        pasts, table = rest[:-1], rest[-1]

        def heads(count: int, index: int) -> relax.Expr:
            rows = emit(relax.op.take(table, ids, axis=0, mode="wrap"))
            start = index * HEADS * width
            part = emit(relax.op.strided_slice(rows, [2], [start], [start + count * width]))
            part = emit(relax.op.reshape(part, [batch, seq, count, width]))
            return emit(relax.op.permute_dims(part, [0, 2, 1, 3]))

        def repeated(x: relax.Expr) -> relax.Expr:
            if groups == 1:
                return x
            if repeat == "all":
                x = emit(relax.op.reshape(x, [batch, 1, kv_heads, total, width]))
                x = emit(relax.op.broadcast_to(x, [batch, groups, kv_heads, total, width]))
            else:
                x = emit(relax.op.reshape(x, [batch, kv_heads, 1, total, width]))
                x = emit(relax.op.broadcast_to(x, [batch, kv_heads, groups, total, width]))
            return emit(relax.op.reshape(x, [batch, HEADS, total, width]))

        def scaled(x: relax.Expr, where: str) -> relax.Expr:
            if scale_on == where:
                return emit(relax.op.multiply(x, relax.const(SCALE)))
            if scale_on == f"{where}, divided":
                return emit(relax.op.divide(x, relax.const(1 / SCALE)))
            return x

        presents = [
            [
                emit(relax.op.concat([pasts[2 * i + part], heads(kv_heads, 1 + part)], axis=2))
                for part in range(2)
            ]
            for i in range(layers)
        ]
        outputs = []
        for i in range(layers):
            key, value = presents[i][0], presents[i if values_of == "own layer" else 0][1]
            query = scaled(heads(HEADS, 0), "query")
            keys = emit(relax.op.permute_dims(repeated(scaled(key, "key")), [0, 1, 3, 2]))
            scores = scaled(emit(relax.op.matmul(query, keys)), "scores")
            logits = masked(emit, mask, scores, positions, batch, seq, past)
            weights = emit(relax.op.nn.softmax(logits, axis=softmax_axis))
            outputs.append(emit(relax.op.matmul(weights, repeated(value))))
        if positions_from:
            absolute = emit(relax.op.astype(positions_from(emit, seq, past), "float32"))
            outputs.append(emit(relax.op.cos(absolute)))
        flat = [present for layer in presents for present in layer]
        return outputs + flat if returned else outputs

    cache = [batch, kv_heads, past, width]
    pasts = {f"past_key_values.{i}.{p}": cache for i in range(layers) for p in ("key", "value")}
    inputs = {"input_ids": [batch, seq], "position_ids": [batch, seq], **pasts}
    integers = dict.fromkeys(("input_ids", "position_ids"), "int64")
    return module(inputs, {"table": [50, 3 * HEADS * width]}, body, integers)


def masked(
    emit: Any, kind: str, scores: relax.Expr, positions: relax.Expr, batch: Any, seq: Any, past: Any
) -> relax.Expr:
    """Mask `scores` causally, or nearly so."""
    keys = emit(relax.op.arange(0, past + seq, 1, "int64"))
    query = emit(relax.op.reshape(positions, [batch, 1, seq, 1]))
    if kind == "from shapes":
        rows = emit(relax.op.arange(past, past + seq, 1, "int64"))
        query = emit(relax.op.reshape(rows, [1, 1, seq, 1]))
    visible = emit(relax.op.less_equal(keys, query))
    if kind == "none":
        return scores
    if kind == "strict":
        visible = emit(relax.op.less(keys, query))
    if kind.startswith("window"):
        first = emit(relax.op.subtract(query, relax.const(int(kind.split()[1]), "int64")))
        visible = emit(relax.op.logical_and(visible, emit(relax.op.greater(keys, first))))
    if kind == "prefix":
        early = emit(relax.op.less(keys, relax.const(4, "int64")))
        visible = emit(relax.op.logical_or(visible, early))
    if kind == "where":
        return emit(relax.op.where(visible, scores, relax.const(-np.inf)))
    if kind == "inverted where":
        hidden = emit(relax.op.logical_not(visible))
        return emit(relax.op.where(hidden, relax.const(-1e9), scores))
    low = relax.const({"weak": -100.0, "infinite": -np.inf}.get(kind, -1e4))
    bias = emit(relax.op.where(visible, relax.const(0.0), low))
    if kind == "softcap":
        scores = emit(relax.op.multiply(emit(relax.op.tanh(scores)), relax.const(2.0)))
    if kind == "alibi":
        slope = emit(relax.op.multiply(emit(relax.op.astype(keys, "float32")), relax.const(0.1)))
        scores = emit(relax.op.add(scores, slope))
    return emit(relax.op.add(scores, bias))
