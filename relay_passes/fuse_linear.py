"""Fuses the product with a weight, and its bias, into `relax.tvm_vacc.linear`."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, rewrite, same_dim, shape_of
from relay_passes.weights import matrix_out_in
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
    if not is_call(expr, "add"):
        return None
    for product, bias in (tuple(expr.args), tuple(expr.args)[::-1]):
        fused = graph.call(product, "tvm_vacc.linear")
        shape = shape_of(bias)
        if fused is None or len(fused.args) != 2 or len(shape) != 1 or bias.ty.dtype != "float32":
            continue
        if same_dim(shape[0], shape_of(product)[-1]):
            return linear(*fused.args, bias)
    return None
