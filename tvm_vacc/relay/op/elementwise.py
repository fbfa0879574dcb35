"""Operators that work element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from tvm_vacc.relay.explain import value
from tvm_vacc.relay.infer import dtype_of


def _unary(operator: Callable[[Any], relax.Expr], formula: str) -> Callable[[Any], relax.Expr]:
    def apply(data: relax.Expr) -> relax.Expr:
        return value(operator(data))

    apply.__name__ = apply.__qualname__ = operator.__name__
    apply.__doc__ = f"``{formula}``: a tensor of the shape and dtype of `data`."
    return apply


def _binary(
    operator: Callable[[Any, Any], relax.Expr], formula: str
) -> Callable[[Any, Any], relax.Expr]:
    def apply(lhs: relax.Expr, rhs: relax.Expr) -> relax.Expr:
        return value(operator(lhs, rhs))

    apply.__name__ = apply.__qualname__ = operator.__name__
    apply.__doc__ = f"``{formula}`` of tensors of one dtype whose shapes broadcast."
    return apply


negative = _unary(relax.op.negative, "-x")
abs = _unary(relax.op.abs, "|x|")
sqrt = _unary(relax.op.sqrt, "sqrt(x)")
rsqrt = _unary(relax.op.rsqrt, "1 / sqrt(x)")
exp = _unary(relax.op.exp, "e ** x")
log = _unary(relax.op.log, "ln x")
sigmoid = _unary(relax.op.sigmoid, "1 / (1 + e ** -x)")
tanh = _unary(relax.op.tanh, "tanh x")
cos = _unary(relax.op.cos, "cos x")
sin = _unary(relax.op.sin, "sin x")
erf = _unary(relax.op.erf, "erf x")
floor = _unary(relax.op.floor, "floor x")
ceil = _unary(relax.op.ceil, "ceil x")
logical_not = _unary(relax.op.logical_not, "not x")

add = _binary(relax.op.add, "lhs + rhs")
subtract = _binary(relax.op.subtract, "lhs - rhs")
multiply = _binary(relax.op.multiply, "lhs * rhs")
divide = _binary(relax.op.divide, "lhs / rhs")
power = _binary(relax.op.power, "lhs ** rhs")
maximum = _binary(relax.op.maximum, "max(lhs, rhs)")
minimum = _binary(relax.op.minimum, "min(lhs, rhs)")
equal = _binary(relax.op.equal, "lhs == rhs")
not_equal = _binary(relax.op.not_equal, "lhs != rhs")
less = _binary(relax.op.less, "lhs < rhs")
less_equal = _binary(relax.op.less_equal, "lhs <= rhs")
greater = _binary(relax.op.greater, "lhs > rhs")
greater_equal = _binary(relax.op.greater_equal, "lhs >= rhs")
logical_and = _binary(relax.op.logical_and, "lhs and rhs")
logical_or = _binary(relax.op.logical_or, "lhs or rhs")


def where(condition: relax.Expr, x: relax.Expr, y: relax.Expr) -> relax.Expr:
    """``x`` where `condition`, a tensor of bool or of numbers, is not zero, else ``y``."""
    if dtype_of(condition) != "bool":
        condition = relax.op.astype(condition, "bool")
    return value(relax.op.where(condition, x, y))


def cast(data: relax.Expr, dtype: str) -> relax.Expr:
    """`data` converted to `dtype`."""
    return value(relax.op.astype(data, dtype))


def clip(a: relax.Expr, a_min: float, a_max: float) -> relax.Expr:
    """`a` between `a_min` and `a_max`."""
    return value(relax.op.clip(a, a_min, a_max))
