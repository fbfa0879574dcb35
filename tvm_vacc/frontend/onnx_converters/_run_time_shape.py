"""Shapes that are known only when the model runs, because an input or a result says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, te, tirx


def dims_of(bb: relax.BlockBuilder, sizes_R: relax.Expr) -> list[tirx.Var]:
    """Return a new symbolic dimension for each element of ``sizes_R [rank]`` int64.

    Raises:
        NotImplementedError: how many there are is not known.
    """
    rank = known_length(sizes_R)
    dims = [tirx.Var("size", "int64") for _ in range(rank)]
    shape = bb.emit(relax.op.tensor_to_shape(bb.normalize(sizes_R)))
    bb.match_cast(shape, relax.ShapeType(dims))
    return dims


def known_length(values: relax.Expr) -> int:
    """Return the length of a tensor of one dimension.

    Raises:
        NotImplementedError: it is symbolic.
    """
    shape = values.ty.shape
    if shape is None or len(shape) != 1 or not isinstance(shape[0], tirx.IntImm):
        raise NotImplementedError("a shape of unknown rank")
    return int(shape[0])


def as_tensor(bb: relax.BlockBuilder, dims: Sequence[Any]) -> relax.Expr:
    """Return ``[rank]`` int64 with the values of `dims`, symbolic ones included."""
    return bb.emit(relax.op.shape_to_tensor(bb.normalize(relax.ShapeExpr(list(dims)))))


def is_computed(value: Any) -> bool:
    """Whether `value` is a tensor whose values are known only when the model runs."""
    return isinstance(value, relax.Var) and isinstance(value.ty, relax.TensorType)


def spread(
    bb: relax.BlockBuilder, values_A: relax.Expr, axes_A: relax.Expr, others_R: relax.Expr
) -> relax.Expr:
    """Return ``others_R [rank]`` with ``values_A`` in the places of the axes ``axes_A``.

    Negative axes count from the end.
    """

    def kernel(values: te.Tensor, axes: te.Tensor, others: te.Tensor) -> te.Tensor:
        [rank], [count] = others.shape, values.shape

        def element(place: tirx.Var) -> tirx.Expr:
            result = others[place]
            for index in range(int(count)):
                axis = axes[index].astype("int64")
                is_here = tirx.any(axis == place, axis + rank == place)
                result = tirx.Select(is_here, values[index].astype("int64"), result)
            return result

        return te.compute([rank], element, name="spread")

    return bb.emit_te(kernel, values_A, axes_A, others_R)


def constant(value: Any) -> Any:
    """Return the array of a constant, None where `value` is none."""
    return value.value.numpy() if isinstance(value, tvm.ir.GenericConst) else None
