"""Taking parts of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay.explain import value
from tvm_vacc.relay.expr import TupleWrapper
from tvm_vacc.relay.infer import as_int, shape_of


def take(
    data: relax.Expr,
    indices: relax.Expr,
    axis: int | None = None,
    batch_dims: int = 0,
    mode: str = "clip",
) -> relax.Expr:
    """The elements of `data` at `indices` along `axis`; of `data` in one row where it is None.

    Args:
        data: a tensor.
        indices: a tensor of integers of any shape, which takes the place of the axis.
        axis: the axis.
        batch_dims: only 0.
        mode: where an index is out of bounds: ``clip``, ``wrap`` or ``fast`` (not checked).

    Raises:
        ConfigError: `batch_dims` is another number.
    """
    if batch_dims:
        raise ConfigError(
            f"relay.take: batch_dims is {batch_dims}", "use relax.op.gather_elements or gather_nd"
        )
    if axis is None:
        data, axis = relax.op.reshape(data, [-1]), 0
    return value(relax.op.take(data, indices, axis, mode))


def split(
    data: relax.Expr, indices_or_sections: int | Sequence[int], axis: int = 0
) -> TupleWrapper:
    """`data` in so many equal parts, or cut at these indices, along `axis`.

    Raises:
        ConfigError: the axis does not divide into equal parts.
    """
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        size = shape_of(data)[axis]
        if isinstance(size, int) and (count < 1 or size % count):
            raise ConfigError(
                f"relay.split: axis {axis} of {size} does not divide into {count} equal parts",
                "give the indices to cut at",
            )
        where: Any = count
    else:
        where = list(indices_or_sections)
        count = len(where) + 1
    return TupleWrapper(value(relax.op.split(data, where, axis)), count)


def strided_slice(
    data: relax.Expr,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    slice_mode: str = "end",
) -> relax.Expr:
    """The elements of `data` from `begin` to `end`, which is left out, along `axes`.

    Args:
        data: a tensor.
        begin: first index an axis; negative ones count from the end.
        end: as `slice_mode` says. May be shorter than `begin`: those axes are taken to their end.
        strides: steps, 1 where left out; negative ones go backwards.
        axes: the axes; the first ones where it is None.
        slice_mode: ``end``, or ``size``: `end` holds sizes, -1 means up to the end of the axis,
            and `strides` is not looked at.

    Raises:
        ConfigError: another mode, or lists that do not fit each other.
    """
    begin, end = [as_int(each) for each in begin], [as_int(each) for each in end]
    axes = list(range(len(begin))) if axes is None else [int(axis) for axis in axes]
    dims = shape_of(data)
    if len(axes) != len(begin) or len(end) > len(axes) or len(axes) > len(dims):
        raise ConfigError(
            f"relay.strided_slice: begin {begin}, end {end} and axes {axes} do not fit a tensor "
            f"of {len(dims)} dimensions",
            "give each axis one number",
        )
    sizes = [dims[axis] for axis in axes]
    if slice_mode == "size":
        begin = [
            first + size if _is_negative(first) else first
            for first, size in zip(begin, sizes, strict=True)
        ]
        end = [
            size if _is_negative(length) else first + length
            for first, length, size in zip(begin, end, sizes, strict=False)
        ]
        strides = None
    elif slice_mode != "end":
        raise ConfigError(f"relay.strided_slice: slice_mode is {slice_mode!r}", "give end or size")
    end = [*end, *sizes[len(end) :]]
    steps = [*(strides or []), *[1] * len(axes)][: len(axes)]
    return value(relax.op.strided_slice(data, axes, begin, end, steps))


def _is_negative(index: Any) -> bool:
    return isinstance(index, int) and index < 0
