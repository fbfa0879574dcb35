"""Brings the spellings of different exporters to one form, before anything is fused.

Afterwards: unsqueeze, squeeze and flatten are `reshape`; split and stack are `strided_slice` and
`concat`; axes count from zero; a scalar constant is the second operand; `x * sigmoid(x)` is `silu`,
``1 / sqrt(x)`` is `rsqrt`, ``x ** 2`` is ``x * x``; a product over one element is a multiplication;
projections work on ``[..., in]`` (onnxsim flattens to two dimensions for Gemm); what changes
nothing is gone; equal subexpressions are computed once. Weights are never folded: they are
parameters, and nothing here reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir, relax, tirx

from relay_passes.base import PassResult
from relay_passes.layout import as_reshape, merge_permutes, merge_reshapes
from relay_passes.rewriter import (
    Graph,
    Rule,
    is_call,
    is_straight,
    rewrite,
    same_dim,
    same_shape,
    scalar,
    shape_of,
    static,
)


@dataclass(frozen=True)
class Canonicalize:
    """The pass; matches count the bindings changed."""

    name: str = "canonicalize"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module in canonical form."""
        if not is_straight(module["main"]):
            return PassResult(module, 0)
        [block] = module["main"].body.blocks
        if any(_is_constant(binding.value) for binding in block.bindings):
            module = relax.transform.FoldConstant()(module)
        result = rewrite(module, _rule)
        module = relax.transform.EliminateCommonSubexpr()(result.module)
        return PassResult(relax.transform.DeadCodeElimination(["main"])(module), result.matches)


def _is_constant(expr: relax.Expr) -> bool:
    """Whether `expr` is made of nothing but constants.

    FoldConstant legalises every call to find out: 4 s for GLM-4-9B, which has no such call.
    """
    parts = expr.args if isinstance(expr, relax.Call) else [expr]
    return all(map(_is_known, parts))


def _is_known(expr: Any) -> bool:
    if isinstance(expr, relax.Tuple):
        return all(map(_is_known, expr.fields))
    if isinstance(expr, relax.ShapeExpr):
        return all(static(dim) is not None for dim in expr.values)
    return isinstance(expr, tvm.ir.GenericConst | tirx.IntImm | tirx.FloatImm)


def _rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if isinstance(expr, relax.TupleGetItem):
        return _element(graph, expr)
    if not isinstance(expr, relax.Call) or not isinstance(expr.op, ir.Op):
        return None
    rule = _RULES.get(expr.op.name.removeprefix("relax."))
    return rule(graph, expr) if rule else None


def _element(graph: Graph, expr: relax.TupleGetItem) -> relax.Expr | None:
    """An element of a tuple is itself; one of a split is a slice."""
    source = graph.value(expr.tuple_value)
    if isinstance(source, relax.Tuple):
        return source.fields[expr.index]
    if not is_call(source, "split"):
        return None
    data, attrs = source.args[0], source.attrs
    axis = int(attrs.axis) % len(shape_of(data))
    size = static(shape_of(data)[axis])
    if size is None:
        return None
    sections = attrs.indices_or_sections
    if static(sections) is not None:
        width = -(-size // int(sections))
        begin, end = expr.index * width, min(size, (expr.index + 1) * width)
    else:
        cuts = [0, *(int(cut) for cut in sections), size]
        begin, end = cuts[expr.index], cuts[expr.index + 1]
    return relax.op.strided_slice(data, [axis], [begin], [end], [1])


def _astype(graph: Graph, call: relax.Call) -> relax.Expr | None:
    return call.args[0] if call.args[0].ty.dtype == call.attrs.dtype else None


def _as_reshape(graph: Graph, call: relax.Call) -> relax.Expr | None:
    return as_reshape(graph, call) if shape_of(call.args[0]) else None


def _strided_slice(graph: Graph, call: relax.Call) -> relax.Expr | None:
    """A slice that takes everything is its source; reversed, it is not."""
    whole = shape_of(call.args[0])
    steps = call.args[4].fields if len(call.args) > 4 else []
    forwards = all(static(step) == 1 for step in steps)
    return call.args[0] if forwards and whole and same_shape(shape_of(call), whole) else None


def _broadcast_to(graph: Graph, call: relax.Call) -> relax.Expr | None:
    shape = shape_of(call.args[0])
    return call.args[0] if same_shape(shape, call.args[1].values) else None


def _concat(graph: Graph, call: relax.Call) -> relax.Expr | None:
    """Axes count from zero; one tensor alone is itself."""
    tensors = graph.value(call.args[0])
    if not isinstance(tensors, relax.Tuple):
        return None
    if len(tensors.fields) == 1:
        return tensors.fields[0]
    axis = int(call.attrs.axis)
    rank = len(shape_of(tensors.fields[0]))
    return relax.op.concat(list(tensors.fields), axis + rank) if axis < 0 < rank else None


def _stack(graph: Graph, call: relax.Call) -> relax.Expr | None:
    tensors = graph.value(call.args[0])
    if not isinstance(tensors, relax.Tuple) or not shape_of(tensors.fields[0]):
        return None
    shape = shape_of(tensors.fields[0])
    axis = int(call.attrs.axis) % (len(shape) + 1)
    shape = [*shape[:axis], 1, *shape[axis:]]
    parts = [graph.emit(relax.op.reshape(field, shape)) for field in tensors.fields]
    return relax.op.concat(parts, axis)


def _without_neutral(call: relax.Call, neutral: float, *, either: bool) -> relax.Expr | None:
    """``x * 1`` and ``x + 0`` are ``x`` where that constant, on `either` side, widens no shape."""
    x, constant = call.args
    for kept, dropped in ((x, constant), (constant, x))[: 2 if either else 1]:
        if scalar(dropped) == neutral and same_shape(shape_of(kept), shape_of(call)):
            return kept
    return None


def _swapped(call: relax.Call, op: Any) -> relax.Expr | None:
    """A constant stands second."""
    a, b = call.args
    constant_first = isinstance(a, tvm.ir.GenericConst) and not isinstance(b, tvm.ir.GenericConst)
    return op(b, a) if constant_first else None


def _add(graph: Graph, call: relax.Call) -> relax.Expr | None:
    neutral = _without_neutral(call, 0.0, either=True)
    if neutral is not None:
        return neutral
    for x, bias in (tuple(call.args), tuple(call.args)[::-1]):
        # reshape(y) + bias, where the reshape keeps the last dimension: add the bias first.
        reshaped = graph.call(x, "reshape")
        if reshaped is not None and graph.call(reshaped.args[0], "matmul") is not None:
            inner, width = shape_of(reshaped.args[0]), shape_of(bias)
            if (
                len(width) == 1
                and same_dim(inner[-1], width[0])
                and same_dim(shape_of(x)[-1], width[0])
            ):
                biased = graph.emit(relax.op.add(reshaped.args[0], bias))
                return relax.op.reshape(biased, shape_of(x))
    return _swapped(call, relax.op.add)


def _multiply(graph: Graph, call: relax.Call) -> relax.Expr | None:
    neutral = _without_neutral(call, 1.0, either=True)
    if neutral is not None:
        return neutral
    for x, other in (tuple(call.args), tuple(call.args)[::-1]):
        sigmoid = graph.call(other, "sigmoid")
        if sigmoid is not None and sigmoid.args[0].same_as(x):
            return relax.op.nn.silu(x)
    return _swapped(call, relax.op.multiply)


def _divide(graph: Graph, call: relax.Call) -> relax.Expr | None:
    """``x / sqrt(y)`` is ``x * rsqrt(y)``, and ``1 / sqrt(y)`` is ``rsqrt(y)``."""
    neutral = _without_neutral(call, 1.0, either=False)
    root = graph.call(call.args[1], "sqrt")
    if neutral is not None or root is None:
        return neutral
    inverse = relax.op.rsqrt(root.args[0])
    if scalar(call.args[0]) == 1.0 and same_shape(shape_of(root), shape_of(call)):
        return inverse
    return relax.op.multiply(call.args[0], graph.emit(inverse))


def _power(graph: Graph, call: relax.Call) -> relax.Expr | None:
    x = call.args[0]
    square = scalar(call.args[1]) == 2.0 and same_shape(shape_of(x), shape_of(call))
    return relax.op.multiply(x, x) if square else None


def _matmul(graph: Graph, call: relax.Call) -> relax.Expr | None:
    x, y = call.args
    x_shape, y_shape = shape_of(x), shape_of(y)
    if len(x_shape) >= 2 and len(y_shape) >= 2 and static(x_shape[-1]) == 1 == static(y_shape[-2]):
        return relax.op.multiply(x, y)
    reshaped = graph.call(x, "reshape")
    if reshaped is None or len(x_shape) != 2 or len(y_shape) != 2:
        return None
    source = shape_of(reshaped.args[0])
    if len(source) <= 2 or not same_dim(source[-1], x_shape[-1]):
        return None
    product = graph.emit(relax.op.matmul(reshaped.args[0], y))
    return relax.op.reshape(product, [x_shape[0], y_shape[1]])


_RULES: dict[str, Rule] = {
    "add": _add,
    "astype": _astype,
    "broadcast_to": _broadcast_to,
    "concat": _concat,
    "divide": _divide,
    "expand_dims": _as_reshape,
    "flatten": _as_reshape,
    "matmul": _matmul,
    "multiply": _multiply,
    "permute_dims": merge_permutes,
    "power": _power,
    "reshape": merge_reshapes,
    "squeeze": _as_reshape,
    "stack": _stack,
    "strided_slice": _strided_slice,
}
