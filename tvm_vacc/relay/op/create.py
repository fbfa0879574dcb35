"""Tensors from nothing but a shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from tvm_vacc.relay.explain import value
from tvm_vacc.relay.expr import Constant


def zeros(shape: int | Sequence[Any], dtype: str) -> relax.Expr:
    """A tensor of zeros."""
    return value(relax.op.zeros(_dims(shape), dtype))


def ones(shape: int | Sequence[Any], dtype: str) -> relax.Expr:
    """A tensor of ones."""
    return value(relax.op.ones(_dims(shape), dtype))


def full(fill_value: relax.Expr, shape: int | Sequence[Any] = (), dtype: str = "") -> relax.Expr:
    """A tensor filled with the scalar `fill_value`, in its dtype where none is given."""
    return value(relax.op.full(_dims(shape), fill_value, dtype or None))


def zeros_like(data: relax.Expr) -> relax.Expr:
    """Zeros in the shape and dtype of `data`."""
    return value(relax.op.zeros_like(data))


def ones_like(data: relax.Expr) -> relax.Expr:
    """Ones in the shape and dtype of `data`."""
    return value(relax.op.ones_like(data))


def full_like(data: relax.Expr, fill_value: relax.Expr) -> relax.Expr:
    """The scalar `fill_value` in the shape and dtype of `data`."""
    return value(relax.op.full_like(data, fill_value))


def arange(start: Any, stop: Any = None, step: Any = None, dtype: str = "float32") -> relax.Expr:
    """Numbers from `start` up to `stop`, which is left out, in steps of `step`.

    Args:
        start: the first number; the end, from zero on, where `stop` is None. Numbers or constants.
        stop: the end.
        step: 1 where it is None.
        dtype: of the result.
    """
    first, end = (0, start) if stop is None else (start, stop)
    numbers = [_number(each) for each in (first, end, 1 if step is None else step)]
    return value(relax.op.arange(*numbers, dtype))


def _number(given: Any) -> Any:
    """The number that a scalar constant holds: Relay took expressions, Relax takes numbers."""
    return given.value.numpy().item() if isinstance(given, Constant) else given


def _dims(shape: int | Sequence[Any]) -> list[Any]:
    return [shape] if isinstance(shape, int) else list(shape)
