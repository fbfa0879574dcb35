"""Fuses RMSNorm, as one operator or spelt out, into `relax.tvm_vacc.rms_norm`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, operand, rewrite, same_dim, scalar, shape_of
from relay_passes.weights import bare_weight
from tvm_vacc.ops.rms_norm import rms_norm


@dataclass(frozen=True)
class FuseRmsNorm:
    """``x * rsqrt(mean(x * x, -1) + eps) * weight`` and `nn.rms_norm` over the last axis."""

    name: str = "fuse_rms_norm"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its norms fused; expects canonical form."""
        return rewrite(module, _rule)


def _rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if is_call(expr, "nn.rms_norm"):
        rank = len(shape_of(expr.args[0]))
        if [int(axis) % rank for axis in expr.attrs.axes] != [rank - 1]:
            return None
        return _norm(graph, expr.args[0], expr.args[1], float(expr.attrs.epsilon))
    if not is_call(expr, "multiply"):
        return None
    for x, inverse, weight in permutations(_factors(graph, expr), 3):
        eps = _eps(graph, inverse, x)
        if eps is not None:
            return _norm(graph, x, weight, eps)
    return None


def _factors(graph: Graph, product: relax.Call) -> list[relax.Expr]:
    """Return the three factors of ``(a * b) * c`` in either association, or nothing."""
    for inner, outer in (tuple(product.args), tuple(product.args)[::-1]):
        nested = graph.call(inner, "multiply")
        if nested is not None and graph.is_weight(bare_weight(graph, outer)):
            return [*nested.args, outer]
        if nested is not None and any(
            graph.is_weight(bare_weight(graph, factor)) for factor in nested.args
        ):
            return [*nested.args, outer]
    return []


def _eps(graph: Graph, inverse: relax.Expr, x: relax.Expr) -> float | None:
    """Return eps where `inverse` is ``rsqrt(mean(x * x, -1, keepdims) + eps)``, else None."""
    rsqrt = graph.call(inverse, "rsqrt")
    shifted = graph.call(operand(rsqrt), "add")
    mean = graph.call(operand(shifted), "mean")
    if shifted is None or mean is None or not mean.attrs.keepdims or mean.attrs.axis is None:
        return None
    rank = len(shape_of(x))
    if [int(axis) % rank for axis in mean.attrs.axis] != [rank - 1]:
        return None
    square = graph.call(mean.args[0], "multiply")
    if square is None or not all(graph.value(arg).same_as(graph.value(x)) for arg in square.args):
        return None
    return scalar(shifted.args[1])


def _norm(graph: Graph, x: relax.Expr, weight: relax.Expr, eps: float) -> relax.Expr | None:
    weight = bare_weight(graph, weight)
    shape = shape_of(weight)
    fits = len(shape) == 1 and same_dim(shape[0], shape_of(x)[-1]) and graph.is_weight(weight)
    return rms_norm(x, weight, eps=eps) if fits and x.ty.dtype == "float32" else None
