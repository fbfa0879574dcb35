"""Reductions over axes, and running sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tvm import relax

from tvm_vacc.relay.explain import value
from tvm_vacc.relay.infer import shape_of

Axis: TypeAlias = int | Sequence[int] | None


def _reduction(operator: Callable[..., relax.Expr], what: str) -> Callable[..., relax.Expr]:
    def apply(
        data: relax.Expr, axis: Axis = None, keepdims: bool = False, exclude: bool = False
    ) -> relax.Expr:
        return value(operator(data, _axes(data, axis, exclude), keepdims))

    apply.__name__ = apply.__qualname__ = operator.__name__
    apply.__doc__ = f"""The {what} over `axis`.

    Args:
        data: a tensor.
        axis: an axis or several; None for all.
        keepdims: keep the axes, with one element.
        exclude: reduce over all axes but `axis`.
    """
    return apply


sum = _reduction(relax.op.sum, "sum")
mean = _reduction(relax.op.mean, "mean")
max = _reduction(relax.op.max, "largest element")
min = _reduction(relax.op.min, "smallest element")
prod = _reduction(relax.op.prod, "product")


def cumsum(
    data: relax.Expr,
    axis: int | None = None,
    dtype: str | None = None,
    exclusive: bool | None = None,
) -> relax.Expr:
    """Running sums along `axis`; of all elements in row-major order where it is None.

    Args:
        data: a tensor.
        axis: the axis.
        dtype: of the result; that of `data` where it is None.
        exclusive: leave each element out of its own sum.
    """
    return value(relax.op.cumsum(data, axis, dtype, bool(exclusive)))


def argmax(
    data: relax.Expr,
    axis: int | None = None,
    keepdims: bool = False,
    exclude: bool = False,
) -> relax.Expr:
    """Index (int64; Relay's was int32) of the largest element along one axis."""
    axes = _axes(data, axis, exclude)
    single = axes[0] if isinstance(axes, list) and len(axes) == 1 else axes
    return value(relax.op.argmax(data, single, keepdims))


def _axes(data: relax.Expr, axis: Axis, exclude: bool) -> Any:
    if not exclude:
        return list(axis) if isinstance(axis, Sequence) else axis
    rank = len(shape_of(data))
    if axis is None:
        axis = range(rank)
    elif isinstance(axis, int):
        axis = [axis]
    named = {each % rank for each in axis}
    return [each for each in range(rank) if each not in named]
