"""Fuses rotary embedding on interleaved pairs (GLM's form) into `relax.tvm_vacc.rope`.

Two spellings: Hugging Face's, ``x * repeat(cos) + rotate(x) * repeat(sin)`` with
``rotate(x) = (-x1, x0, -x3, x2, ...)``, and that of ONNX's RotaryEmbedding, which computes the even
and the odd results and interleaves them. Pairs of halves (``x[:R], x[R:]``) are not ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.layout import axes_of
from relay_passes.rewriter import Graph, is_call, operand, rewrite, same_shape, shape_of, static
from relay_passes.slices import Slice, slice_of
from tvm_vacc.ops.rope import rope


@dataclass(frozen=True)
class FuseRope:
    """Matches count the rotations; the part of a head that is not rotated joins them."""

    name: str = "fuse_rope"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its rotations fused; expects canonical form."""
        rotations = rewrite(module, _rotation)
        return PassResult(rewrite(rotations.module, _with_rest).module, rotations.matches)


def _rotation(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if is_call(expr, "add"):
        return _rotated_sum(graph, expr)
    if is_call(expr, "reshape"):
        return _interleaved_results(graph, expr)
    return None


def _rotated_sum(graph: Graph, expr: relax.Call) -> relax.Expr | None:
    """``x * repeat(cos) + rotate(x) * repeat(sin)``."""
    for plain, turned in (tuple(expr.args), tuple(expr.args)[::-1]):
        for x, cos in _products(graph, plain):
            for rotated, sin in _products(graph, turned):
                if _is_rotation_of(graph, rotated, x):
                    return _rope(graph, x, _repeated(graph, cos), _repeated(graph, sin))
    return None


def _interleaved_results(graph: Graph, expr: relax.Call) -> relax.Expr | None:
    """``interleave(even * cos - odd * sin, even * sin + odd * cos)``."""
    parts = _interleaved(graph, expr)
    real, imaginary = parts or (None, None)
    difference, total = graph.call(real, "subtract"), graph.call(imaginary, "add")
    if difference is None or total is None:
        return None
    for even, cos in _products(graph, difference.args[0]):
        for odd, sin in _products(graph, difference.args[1]):
            pair = _pair(graph, even, odd)
            if pair is not None and _sums(graph, total, (even, sin), (odd, cos)):
                return _rope(graph, pair, cos, sin)
    return None


def _sums(
    graph: Graph,
    total: relax.Call,
    first: tuple[relax.Expr, relax.Expr],
    second: tuple[relax.Expr, relax.Expr],
) -> bool:
    """Whether `total` is the sum of the products of those two pairs."""

    def is_product(expr: relax.Expr, pair: tuple[relax.Expr, relax.Expr]) -> bool:
        return any(a.same_as(pair[0]) and b.same_as(pair[1]) for a, b in _products(graph, expr))

    return any(
        is_product(a, first) and is_product(b, second)
        for a, b in (tuple(total.args), tuple(total.args)[::-1])
    )


def _products(graph: Graph, expr: relax.Expr) -> list[tuple[relax.Expr, relax.Expr]]:
    """Return the factors of a product in both orders; nothing where `expr` is none."""
    product = graph.call(expr, "multiply")
    return [] if product is None else [tuple(product.args), tuple(product.args)[::-1]]


def _interleaved(graph: Graph, expr: relax.Expr) -> tuple[relax.Expr, relax.Expr] | None:
    """Return `a` and `b` where `expr` is ``a0 b0 a1 b1 ...`` along the last axis."""
    flat = graph.call(expr, "reshape")
    concat = graph.call(operand(flat), "concat")
    if flat is None or concat is None:
        return None
    fields = graph.value(concat.args[0]).fields
    if len(fields) != 2:
        return None
    stacked, shape = shape_of(flat.args[0]), shape_of(flat)
    if int(concat.attrs.axis) != len(stacked) - 1 or static(stacked[-1]) != 2:
        return None
    if not same_shape([*stacked[:-2], stacked[-2] * 2], shape):
        return None
    a, b = (_without_last(graph, field) for field in fields)
    return None if a is None or b is None else (a, b)


def _without_last(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    """Return the tensor that `expr` adds a last axis of one to."""
    reshape = graph.call(expr, "reshape")
    if reshape is None or not same_shape([*shape_of(reshape.args[0]), 1], shape_of(expr)):
        return None
    return reshape.args[0]


def _is_rotation_of(graph: Graph, rotated: relax.Expr, x: relax.Expr) -> bool:
    """Whether `rotated` is ``(-x1, x0, -x3, x2, ...)``."""
    parts = _interleaved(graph, rotated)
    negated = None if parts is None else graph.call(parts[0], "negative")
    if parts is None or negated is None:
        return False
    pair = _pair(graph, parts[1], negated.args[0])
    return pair is not None and pair.same_as(x)


def _pair(graph: Graph, even: relax.Expr, odd: relax.Expr) -> relax.Expr | None:
    """Return the tensor whose even and odd elements along the last axis those two are."""
    first, second = slice_of(graph, even), slice_of(graph, odd)
    if first is None or second is None or not first.source.same_as(second.source):
        return None
    last = len(shape_of(first.source)) - 1
    width = static(shape_of(first.source)[last])
    if width is None or width % 2:
        return None
    evens = Slice(first.source, last, 0, width, 2)
    odds = Slice(first.source, last, 1, width, 2)
    return first.source if first.same_as(evens) and second.same_as(odds) else None


def _repeated(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    """Return `t` where `expr` is ``t0 t0 t1 t1 ...`` along the last axis."""
    stacked = _interleaved(graph, expr)
    if stacked is not None:
        return stacked[0] if graph.value(stacked[0]).same_as(graph.value(stacked[1])) else None
    flat = graph.call(expr, "reshape")
    spread = graph.call(operand(flat), "broadcast_to")
    if flat is None or spread is None:
        return None
    narrow, wide = shape_of(spread.args[0]), shape_of(spread)
    if static(wide[-1]) != 2 or not same_shape(narrow, [*wide[:-1], 1]):
        return None
    if not same_shape([*wide[:-2], wide[-2] * 2], shape_of(flat)):
        return None
    return graph.emit(relax.op.reshape(spread.args[0], narrow[:-1]))


def _rope(
    graph: Graph, x: relax.Expr, cos: relax.Expr | None, sin: relax.Expr | None
) -> relax.Expr | None:
    """Emit the operator; `cos` and `sin` have one head, along axis 1 or 2."""
    if cos is None or sin is None or x.ty.dtype != "float32":
        return None
    shape, table = shape_of(x), shape_of(cos)
    if len(shape) != 4 or len(table) != 4 or not same_shape(table, shape_of(sin)):
        return None
    for heads, seq in ((1, 2), (2, 1)):
        if static(table[heads]) == 1 and same_shape([table[seq]], [shape[seq]]):
            break
    else:
        return None
    x_BSHD = x if heads == 2 else graph.emit(relax.op.permute_dims(x, [0, 2, 1, 3]))
    target = [shape[0], shape[seq], table[3]]

    def per_token(expr: relax.Expr) -> relax.Expr:
        expr_BSR = graph.emit(relax.op.reshape(expr, [table[0], table[seq], table[3]]))
        if same_shape(shape_of(expr_BSR), target):
            return expr_BSR
        return graph.emit(relax.op.broadcast_to(expr_BSR, target))

    turned = rope(x_BSHD, per_token(cos), per_token(sin))
    return turned if heads == 2 else relax.op.permute_dims(graph.emit(turned), [0, 2, 1, 3])


def _with_rest(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    """``concat(rope(x[..., :2R]), x[..., 2R:])`` is `rope(x)`: it leaves the rest as it is."""
    fields = list(graph.value(expr.args[0]).fields) if is_call(expr, "concat") else []
    if len(fields) != 2:
        return None
    transposed, rest = graph.call(fields[0], "permute_dims"), slice_of(graph, fields[1])
    heads_first = transposed is not None and axes_of(transposed) == [0, 2, 1, 3]
    fused = graph.call(operand(transposed) if heads_first else fields[0], "tvm_vacc.rope")
    rotated = graph.call(operand(fused), "permute_dims") if heads_first else fused
    start = slice_of(graph, operand(rotated))
    if fused is None or rest is None or start is None:
        return None
    x = rest.source
    last, width = len(shape_of(x)) - 1, static(shape_of(x)[-1])
    if width is None or int(expr.attrs.axis) != last:
        return None
    is_start = start.same_as(Slice(x, last, 0, start.end, 1))
    if not is_start or not rest.same_as(Slice(x, last, start.end, width, 1)):
        return None
    x_BSHD = graph.emit(relax.op.permute_dims(x, [0, 2, 1, 3])) if heads_first else x
    whole = rope(x_BSHD, fused.args[1], fused.args[2])
    return relax.op.permute_dims(graph.emit(whole), [0, 2, 1, 3]) if heads_first else whole
