"""Recognises ``softmax(f(q k^T)) v``: what an exporter makes of grouped-query attention."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from relay_passes.layout import axes_of
from relay_passes.rewriter import View, is_call, operand, same_dim, same_shape, scalar, shape_of

_ELEMENTWISE = ("add", "astype", "divide", "maximum", "minimum", "multiply", "subtract", "where")


@dataclass(frozen=True)
class AttentionCore:
    """The parts of one attention.

    Attributes:
        query: ``[batch, heads, seq, head_dim]``.
        key: ``[batch, kv_heads, total, head_dim]``, before heads are repeated.
        value: as `key`.
        scores: the product of query and key, ``[batch, heads, seq, total]``.
        logits: what the softmax reads: `scores`, scaled and masked.
        scale: the factor that query and key carry; that of `logits` is not in it.
    """

    query: relax.Expr
    key: relax.Expr
    value: relax.Expr
    scores: relax.Var
    logits: relax.Var
    scale: float


def attention_core(graph: View, expr: relax.Expr) -> AttentionCore | None:
    """Return the attention whose last product is `expr`, None where it is none."""
    if not is_call(expr, "matmul") or len(shape_of(expr)) != 4:
        return None
    softmax = graph.call(_without_casts(graph, expr.args[0]), "nn.softmax")
    if softmax is None or int(softmax.attrs.axis) not in (-1, 3):
        return None
    scores = _find_scores(graph, softmax.args[0])
    product = graph.call(scores, "matmul")
    if scores is None or product is None:
        return None
    query, query_scale = _without_scale(graph, product.args[0])
    keys, outer_scale = _without_scale(graph, product.args[1])
    transposed = graph.call(keys, "permute_dims")
    if transposed is None or axes_of(transposed) != [0, 1, 3, 2]:
        return None
    keys, inner_scale = _without_scale(graph, transposed.args[0])
    key, key_scale = _without_scale(graph, without_repeat(graph, keys))
    value = without_repeat(graph, expr.args[1])
    if not _shapes_fit(query, key, value):
        return None
    scale = query_scale * outer_scale * inner_scale * key_scale
    return AttentionCore(query, key, value, scores, softmax.args[0], scale)


def without_repeat(graph: View, expr: relax.Expr) -> relax.Expr:
    """Return ``x [batch, kv_heads, total, head_dim]`` under ``repeat_kv(x)``, else `expr`.

    The heads are repeated in place, ``h0 h0 h1 h1``: expanded along a new axis 2, then merged.
    """
    merged = graph.call(expr, "reshape")
    spread = graph.call(operand(merged), "broadcast_to")
    split = graph.call(operand(spread), "reshape")
    if merged is None or spread is None or split is None:
        return expr
    source, wide, shape = split.args[0], shape_of(spread), shape_of(merged)
    x_shape = shape_of(source)
    if len(x_shape) != 4 or len(wide) != 5 or len(shape) != 4:
        return expr
    batch, heads, total, head_dim = x_shape
    inserted = same_shape(shape_of(split), [batch, heads, 1, total, head_dim])
    widened = same_shape(wide, [batch, heads, wide[2], total, head_dim])
    joined = same_shape(shape, [batch, heads * wide[2], total, head_dim])
    return source if inserted and widened and joined else expr


def _shapes_fit(query: relax.Expr, key: relax.Expr, value: relax.Expr) -> bool:
    """Whether key and value belong together and the query's heads share them evenly."""
    query_shape, key_shape = shape_of(query), shape_of(key)
    if len(query_shape) != 4 or not same_shape(key_shape, shape_of(value)):
        return False
    same_width = same_dim(query_shape[3], key_shape[3])
    return same_width and int(query_shape[1]) % int(key_shape[1]) == 0


def _without_casts(graph: View, expr: relax.Expr) -> relax.Expr:
    cast = graph.call(expr, "astype")
    return expr if cast is None else _without_casts(graph, cast.args[0])


def _without_scale(graph: View, expr: relax.Expr) -> tuple[relax.Expr, float]:
    """Return `expr` without products and quotients by constants, and their factor."""
    factor = 1.0
    while True:
        scaled = graph.call(expr, "multiply", "divide")
        constant = None if scaled is None else scalar(scaled.args[1])
        if scaled is None or not constant:
            return expr, factor
        factor = factor * constant if is_call(scaled, "multiply") else factor / constant
        expr = scaled.args[0]


def _find_scores(graph: View, logits: relax.Expr) -> relax.Var | None:
    """Return the product of two activations that `logits` is computed from, element by element."""
    pending, seen = [logits], set()
    while pending:
        expr = pending.pop()
        if not isinstance(expr, relax.Var) or expr in seen:
            continue
        seen.add(expr)
        value = graph.value(expr)
        if is_call(value, "matmul") and len(shape_of(expr)) == 4:
            return expr
        if is_call(value, *_ELEMENTWISE):
            pending.extend(value.args)
    return None
