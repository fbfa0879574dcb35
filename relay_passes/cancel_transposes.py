"""Removes the transposes and reshapes that fusion has left facing each other."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.layout import as_reshape, axes_of, merge_permutes, merge_reshapes
from relay_passes.rewriter import Graph, is_call, rewrite, same_shape, shape_of, static


@dataclass(frozen=True)
class CancelTransposes:
    """Neighbours merge; a transpose that only moves axes of length one is a reshape."""

    name: str = "cancel_transposes"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with fewer copies of activations."""
        result = rewrite(module, _rule)
        return PassResult(relax.transform.EliminateCommonSubexpr()(result.module), result.matches)


def _rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if is_call(expr, "reshape"):
        return merge_reshapes(graph, expr)
    if is_call(expr, "broadcast_to"):
        source = expr.args[0]
        return source if same_shape(shape_of(source), shape_of(expr)) else None
    if not is_call(expr, "permute_dims"):
        return None
    merged = merge_permutes(graph, expr)
    if merged is not None:
        return merged
    source = shape_of(expr.args[0])
    moved = [axis for axis in axes_of(expr) if static(source[axis]) != 1]
    return as_reshape(graph, expr) if moved == sorted(moved) else None
