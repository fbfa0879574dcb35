"""Fuses the look-up of rows in a weight into `relax.tvm_vacc.embedding`."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, rewrite, shape_of
from relay_passes.weights import bare_weight
from tvm_vacc.ops.embedding import embedding


@dataclass(frozen=True)
class FuseEmbedding:
    """``take(table, ids, axis=0)``, before or after a cast to fp32."""

    name: str = "fuse_embedding"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its embedding fused; expects canonical form."""
        return rewrite(module, _rule)


def _rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if is_call(expr, "astype") and expr.attrs.dtype == "float32":
        look_up = graph.call(expr.args[0], "take")
    elif is_call(expr, "take") and expr.ty.dtype == "float32":
        look_up = expr
    else:
        return None
    if look_up is None or look_up.attrs.axis is None or int(look_up.attrs.axis) != 0:
        return None
    table, ids = bare_weight(graph, look_up.args[0]), look_up.args[1]
    if len(shape_of(table)) != 2 or not graph.is_weight(table):
        return None
    return embedding(table, ids) if ids.ty.dtype in ("int32", "int64") else None
