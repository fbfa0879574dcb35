"""Merges neighbouring reshapes and transposes: shared by the passes that move data about."""

from __future__ import annotations

from tvm import relax

from relay_passes.rewriter import Graph, same_shape, shape_of


def merge_reshapes(graph: Graph, call: relax.Call) -> relax.Expr | None:
    """A reshape of a reshape is one; a reshape to the shape that is there already is none."""
    source = call.args[0]
    inner = graph.call(source, "reshape")
    if inner is not None:
        source = inner.args[0]
    target = list(call.args[1].values)
    if shape_of(source) and same_shape(shape_of(source), target):
        return source
    return relax.op.reshape(source, target) if inner is not None else None


def as_reshape(graph: Graph, call: relax.Call) -> relax.Expr:
    """Return what `call`, which keeps the order of the elements, is as a reshape."""
    reshape = graph.builder.normalize(relax.op.reshape(call.args[0], shape_of(call)))
    merged = merge_reshapes(graph, reshape)
    return reshape if merged is None else merged


def axes_of(call: relax.Call) -> list[int]:
    """Return the axes of a `permute_dims`, counted from zero."""
    rank = len(shape_of(call.args[0]))
    if call.attrs.axes is None:
        return list(range(rank))[::-1]
    return [int(axis) % rank for axis in call.attrs.axes]


def merge_permutes(graph: Graph, call: relax.Call) -> relax.Expr | None:
    """A transpose of a transpose is one; one that keeps all axes in place is none."""
    source = call.args[0]
    if not shape_of(source):
        return None
    axes = axes_of(call)
    inner = graph.call(source, "permute_dims")
    if inner is not None:
        inner_axes = axes_of(inner)
        source, axes = inner.args[0], [inner_axes[axis] for axis in axes]
    if axes == sorted(axes):
        return source
    return relax.op.permute_dims(source, axes) if inner is not None else None
