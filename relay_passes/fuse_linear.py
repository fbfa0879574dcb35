"""Fuses the product with a weight, and its bias, into `relax.tvm_vacc.linear`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, rewrite, same_dim, shape_of
from relay_passes.weights import matrix_out_in
from tvm_vacc.ops._registry import VaccOp
from tvm_vacc.ops.linear import linear


@dataclass(frozen=True)
class FuseLinear:
    """``matmul(x, weight.T)`` or ``matmul(x, weight)``, and ``+ bias``; matches count products."""

    name: str = "fuse_linear"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its projections fused; expects canonical form."""
        products = rewrite(module, _product)
        return PassResult(rewrite(products.module, _bias).module, products.matches)


def _product(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if not is_call(expr, "matmul") or expr.attrs.out_dtype not in (None, "", "float32", "void"):
        return None
    x, matrix = expr.args
    if len(shape_of(matrix)) != 2 or len(shape_of(x)) < 2 or x.ty.dtype != "float32":
        return None
    weight = matrix_out_in(graph, matrix)
    return None if weight is None else linear(x, weight)


def _bias(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    return with_bias(graph, expr, linear, lambda call: len(call.args) == 2)


def with_bias(
    graph: Graph, expr: relax.Expr, op: VaccOp, takes_bias: Callable[[relax.Call], bool]
) -> relax.Expr | None:
    """Return the sum of a projection and a vector as one call of `op`, None where it is none.

    Args:
        graph: as far as it is emitted.
        expr: what may be the sum.
        op: the projection; a bias is the last of its arguments.
        takes_bias: whether a call of it has no bias yet.
    """
    if not is_call(expr, "add"):
        return None
    for product, bias in (tuple(expr.args), tuple(expr.args)[::-1]):
        fused = graph.call(product, op.name.removeprefix("relax."))
        shape = shape_of(bias)
        if fused is None or not takes_bias(fused):
            continue
        if len(shape) != 1 or bias.ty.dtype != "float32":
            continue
        if same_dim(shape[0], shape_of(product)[-1]):
            return op(*fused.args, bias, **dict(fused.attrs.items() if fused.attrs else ()))
    return None
