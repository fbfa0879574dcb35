"""Reads a strided slice along one axis, with constant bounds."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from relay_passes.rewriter import View, shape_of, static


@dataclass(frozen=True)
class Slice:
    """``source[..., begin:end:step, ...]`` along `axis`, bounds clipped to the dimension."""

    source: relax.Expr
    axis: int
    begin: int
    end: int
    step: int

    def same_as(self, other: Slice) -> bool:
        """Whether both take the same elements of the same tensor."""
        bounds = (self.axis, self.begin, self.end, self.step)
        return self.source.same_as(other.source) and bounds == (
            other.axis,
            other.begin,
            other.end,
            other.step,
        )


def slice_of(graph: View, expr: relax.Expr | None) -> Slice | None:
    """Return the slice that `expr` is bound to, None where it is none or not constant."""
    call = graph.call(expr, "strided_slice")
    if call is None or len(call.args[1].fields) != 1:
        return None
    source, rank = call.args[0], len(shape_of(call.args[0]))
    bounds = [static(arg.fields[0]) for arg in call.args[1:]]
    if None in bounds or not rank:
        return None
    axis, begin, end = (int(bound) for bound in bounds[:3] if bound is not None)
    step = bounds[3] if len(bounds) > 3 and bounds[3] is not None else 1
    size = static(shape_of(source)[axis % rank])
    if size is None or step < 1:
        return None
    begin, end, step = slice(begin, end, step).indices(size)
    return Slice(source, axis % rank, begin, end, step)
