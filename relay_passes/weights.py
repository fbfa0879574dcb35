"""How weights appear in a graph: as they are, cast, or transposed."""

from __future__ import annotations

from tvm import relax

from relay_passes.layout import axes_of
from relay_passes.rewriter import View

_FLOATS = ("float32", "float16", "bfloat16")


def bare_weight(graph: View, expr: relax.Expr) -> relax.Expr:
    """Return the tensor under casts between float types: our operators read any of them."""
    cast = graph.call(expr, "astype")
    while cast is not None and cast.args[0].ty.dtype in _FLOATS:
        expr = cast.args[0]
        cast = graph.call(expr, "astype")
    return expr


def matrix_out_in(graph: View, expr: relax.Expr) -> relax.Expr | None:
    """Return the ``[out, in]`` weight whose transpose `expr` ``[in, out]`` is.

    Casts and transposes may stand in either order. A weight that is stored as ``[in, out]`` gets
    a transpose, for the packer to read through. None where `expr` is no weight.
    """
    expr = bare_weight(graph, expr)
    transpose = graph.call(expr, "permute_dims")
    if transpose is not None and axes_of(transpose) == [1, 0]:
        weight = bare_weight(graph, transpose.args[0])
        return weight if graph.is_weight(weight) else None
    if not graph.is_weight(expr):
        return None
    return relax.op.permute_dims(expr, [1, 0])
