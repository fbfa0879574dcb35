"""Operators that move elements and change none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tvm import relax

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay.explain import value
from tvm_vacc.relay.expr import TupleWrapper
from tvm_vacc.relay.infer import as_int, shape_of

Tensors: TypeAlias = Sequence[relax.Expr] | relax.Expr | TupleWrapper


def reshape(data: relax.Expr, newshape: int | Sequence[Any], allowzero: bool = False) -> relax.Expr:
    """The elements of `data`, in row-major order, in a new shape.

    Args:
        data: a tensor.
        newshape: dimensions, read from left to right along those of `data`: 0 copies one, -1 is
            what is left over (once), -2 copies all that remain, -3 multiplies two into one, -4
            splits one into the next two numbers, of which one may be -1.
        allowzero: 0 is a dimension of no elements, as in NumPy.

    Raises:
        ConfigError: the special numbers do not fit the shape of `data`.
    """
    wanted = [newshape] if isinstance(newshape, int) else [as_int(dim) for dim in newshape]
    if any(isinstance(dim, int) and (dim < -1 or (dim == 0 and not allowzero)) for dim in wanted):
        wanted = _resolved(wanted, shape_of(data), allowzero)
    shape_of(data)  # Relax needs it for -1, and Python's own error would name none of this
    return value(relax.op.reshape(data, wanted))


def _resolved(wanted: list[Any], dims: list[Any], allowzero: bool) -> list[Any]:
    """Replace all special numbers but -1."""
    rest, made, numbers = list(dims), [], list(wanted)
    try:
        while numbers:
            number = numbers.pop(0)
            if not isinstance(number, int) or number > 0 or (number == 0 and allowzero):
                made.append(number)
                rest[:1] = []
            elif number == 0:
                made.append(rest.pop(0))
            elif number == -1:
                made.append(-1)
                rest[:1] = []
            elif number == -2:
                made += rest
                rest = []
            elif number == -3:
                made.append(rest.pop(0) * rest.pop(0))
            elif number == -4:
                made += _split_dim(rest.pop(0), numbers.pop(0), numbers.pop(0))
            else:
                raise IndexError
    except IndexError:
        raise ConfigError(
            f"relay.reshape: {wanted} does not fit the shape {dims}",
            "0, -2, -3 and -4 need dimensions to stand for",
        ) from None
    return made


def _split_dim(size: Any, first: int, second: int) -> list[Any]:
    if first == -1:
        return [size // second, second]
    return [first, size // first if second == -1 else second]


def transpose(data: relax.Expr, axes: Sequence[int] | None = None) -> relax.Expr:
    """`data` with its axes in another order; reversed where `axes` is None."""
    return value(relax.op.permute_dims(data, None if axes is None else [int(a) for a in axes]))


def expand_dims(data: relax.Expr, axis: int, num_newaxis: int = 1) -> relax.Expr:
    """`data` with `num_newaxis` axes of one element, the first of them at `axis`."""
    first = axis if axis >= 0 else axis + len(shape_of(data)) + 1
    return value(relax.op.expand_dims(data, list(range(first, first + num_newaxis))))


def squeeze(data: relax.Expr, axis: int | Sequence[int] | None = None) -> relax.Expr:
    """`data` without its axes of one element: those of `axis`, or all."""
    axes = [axis] if isinstance(axis, int) else axis
    return value(relax.op.squeeze(data, None if axes is None else list(axes)))


def concatenate(data: Tensors, axis: int) -> relax.Expr:
    """The tensors of `data` (a list or a tuple), one after the other along `axis`."""
    return value(relax.op.concat(_tuple(data), axis))


def stack(data: Tensors, axis: int) -> relax.Expr:
    """The tensors of `data`, of one shape, along a new axis."""
    return value(relax.op.stack(_tuple(data), axis))


def broadcast_to(data: relax.Expr, shape: Sequence[Any]) -> relax.Expr:
    """`data` repeated along its axes of one element up to `shape`."""
    return value(relax.op.broadcast_to(data, list(shape)))


def repeat(data: relax.Expr, repeats: int, axis: int) -> relax.Expr:
    """`data` with each element along `axis` so many times."""
    return value(relax.op.repeat(data, repeats, axis))


def tile(data: relax.Expr, reps: Sequence[int]) -> relax.Expr:
    """`data` as a whole so many times along each axis."""
    return value(relax.op.tile(data, list(reps)))


def _tuple(data: Tensors) -> relax.Expr | list[relax.Expr]:
    if isinstance(data, TupleWrapper):
        return data.astuple()
    return list(data) if isinstance(data, (list, tuple)) else data
