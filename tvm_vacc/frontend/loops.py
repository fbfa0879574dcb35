"""Loops in Relax, which has none: what ONNX's Loop and Scan become.

A loop of few steps whose number is known is written out. Any other becomes a function that halves
its steps and calls itself for either half, so that calls nest as deep as the number has bits: also
where it is the largest there is, and a condition ends the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from tvm import ir, relax, tirx
from tvm.relax.utils import copy_with_new_vars
from tvm.sym import Analyzer

from tvm_vacc.frontend.lifted_functions import Lifted, branch, function_of, lift
from tvm_vacc.limits import MAX_UNROLLED_STEPS

_Bb: TypeAlias = relax.BlockBuilder
_Exprs: TypeAlias = list[relax.Expr]

Step: TypeAlias = Callable[[relax.Expr, relax.Expr, _Exprs], tuple[relax.Expr, _Exprs, _Exprs]]
"""Of the number of the step ``[]`` int64, whether to go on ``[]`` bool, and the values carried from
step to step: whether to go on, the values carried, and those that are collected of every step."""

ENDLESS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Loop:
    """What is repeated.

    Attributes:
        step: emits one step.
        steps: how many at most: a number, or ``[]`` int64.
        go: whether there is a first step, ``[]`` bool.
        carried: the values before the first step.
        unconditional: that all steps are made is known.
    """

    step: Step
    steps: int | relax.Expr
    go: relax.Expr
    carried: _Exprs
    unconditional: bool


def run_loop(bb: _Bb, loop: Loop) -> tuple[_Exprs, _Exprs]:
    """Emit `loop`; return the values after the last step, and those collected, stacked on axis 0.

    Raises:
        NotImplementedError: a value changes its dtype or rank from step to step, or what is
            collected its shape, and the steps are not written out.
    """
    known = isinstance(loop.steps, int)
    if known and loop.unconditional and 0 < loop.steps <= MAX_UNROLLED_STEPS:
        return _written_out(bb, loop)
    carried, collected = _called(bb, loop)
    if known and loop.unconditional:
        collected = [of_length(bb, value, loop.steps) for value in collected]
    return carried, collected


def _written_out(bb: _Bb, loop: Loop) -> tuple[_Exprs, _Exprs]:
    go, carried, rows = loop.go, loop.carried, []
    for index in range(int(loop.steps)):
        go, carried, collected = loop.step(relax.const(index, "int64"), go, carried)
        rows.append(collected)
    columns = zip(*rows, strict=True)
    return carried, [bb.emit(relax.op.stack(list(column), 0)) for column in columns]


def _called(bb: _Bb, loop: Loop) -> tuple[_Exprs, _Exprs]:
    step, count = _lift_step(bb, loop)
    reference = _repeat(bb, step, count)
    steps = relax.const(loop.steps, "int64") if isinstance(loop.steps, int) else loop.steps
    first = relax.const(0, "int64")
    arguments = [steps, first, loop.go, *loop.carried, *step.captured]
    results = _elements(bb, bb.emit(relax.Call(reference, arguments)))
    rows = zip(results[1 + count :], step.function.ret_ty.fields[1 + count :], strict=True)
    sizes = _sizes(step.function.params[2:], arguments[3:])
    return [named_dims(bb, value) for value in results[1 : 1 + count]], [
        _rows(bb, value, [_outside(dim, sizes) for dim in ty.shape]) for value, ty in rows
    ]


def _sizes(params: _Exprs, arguments: _Exprs) -> dict[tirx.Var, Any]:
    """Return what the dimensions of a function's parameters are where it is called."""
    sizes: dict[tirx.Var, Any] = {}
    for param, argument in zip(params, arguments, strict=True):
        for inner, outer in zip(_dims(param), _dims(argument), strict=False):
            if isinstance(inner, tirx.Var):
                sizes.setdefault(inner, outer)
    return sizes


def _dims(value: relax.Expr) -> list[Any]:
    ty = value.ty
    return list(ty.shape) if isinstance(ty, relax.TensorType) and ty.shape is not None else []


def _outside(dim: Any, sizes: dict[tirx.Var, Any]) -> Any:
    """Return a dimension of a called function's result as its caller knows it, or a new name."""
    if isinstance(dim, tirx.IntImm):
        return dim
    return sizes[dim] if isinstance(dim, tirx.Var) and dim in sizes else _new_size()


def _lift_step(bb: _Bb, loop: Loop) -> tuple[Lifted, int]:
    """Return the step as a function, and how many values it carries.

    Their dimensions that a step changes become sizes that a call tells.
    """
    number, go = _scalar("number", "int64"), _scalar("go", "bool")
    types, opened = [value.ty for value in loop.carried], set[tuple[int, int]]()
    while True:
        values = [relax.Var(f"carried_{i}", ty) for i, ty in enumerate(types)]
        made: list[relax.Type] = []

        def build(values: _Exprs = values, made: list[relax.Type] = made) -> _Exprs:
            again, carried, collected = loop.step(number, go, list(values))
            made.extend(value.ty for value in carried)
            return [again, *carried, *collected]

        lifted = lift(bb, "step", [number, go, *values], build)
        changed = {
            (i, axis)
            for i, (before, after) in enumerate(zip(types, made, strict=True))
            for axis in _changed(before, after)
        }
        if changed <= opened:
            return lifted, len(types)
        opened |= changed
        types = [_opened(ty, {axis for j, axis in opened if j == i}) for i, ty in enumerate(types)]


def _changed(before: relax.Type, after: relax.Type) -> list[int]:
    """Return the axes along which a value of `before` may have another size after a step."""
    if not isinstance(before, relax.TensorType) or not isinstance(after, relax.TensorType):
        raise NotImplementedError("a loop that carries sequences from step to step")
    if before.dtype != after.dtype or before.ndim != after.ndim or after.ndim < 0:
        raise NotImplementedError(f"a loop that makes {after} of {before}")
    if after.shape is None:
        return list(range(after.ndim))
    return [axis for axis in range(after.ndim) if not _same(before.shape[axis], after.shape[axis])]


def _opened(ty: relax.TensorType, axes: set[int]) -> relax.TensorType:
    dims = [_new_size() if axis in axes else dim for axis, dim in enumerate(ty.shape)]
    return relax.TensorType(dims, ty.dtype)


def _same(a: Any, b: Any) -> bool:
    return bool(Analyzer().can_prove_equal(a, b))


def _repeat(bb: _Bb, step: Lifted, count: int) -> ir.GlobalVar:
    """Add the function of `steps`, the number of the first one, and what `step` takes after it."""
    steps, first = _scalar("steps", "int64"), _scalar("first", "int64")
    go, *rest = step.function.params[1:]
    carried, captured = rest[:count], rest[count:]
    params = [steps, first, go, *carried, *captured]
    known = {var for param in params for var in relax.analysis.definable_tir_vars_in_type(param.ty)}
    made = step.function.ret_ty.fields[1 + count :]
    for ty in made:
        free = {var for dim in ty.shape or () for var in tirx.analysis.undefined_vars(dim)}
        if ty.shape is None or not free <= known:
            raise NotImplementedError("a loop that collects values of changing shapes")
    types = [
        go.ty,
        *(_told(var.ty, step.function.ret_ty.fields[1 + i]) for i, var in enumerate(carried)),
        *(relax.TensorType(dtype=ty.dtype, ndim=1 + ty.ndim) for ty in made),
    ]
    returned = relax.TupleType(types)
    placeholder = relax.Function.create_empty(params, returned)
    reference = bb.add_func(placeholder, "repeat")
    one, none = relax.const(1, "int64"), relax.const(0, "int64")

    def call(*arguments: relax.Expr) -> _Exprs:
        results = _elements(bb, bb.emit(relax.Call(reference, [*arguments, *captured])))
        rows = zip(results[1 + count :], made, strict=True)
        return [*results[: 1 + count], *(_rows(bb, value, list(ty.shape)) for value, ty in rows)]

    def once() -> _Exprs:
        result = bb.emit(relax.Call(step.reference, [first, go, *carried, *captured]))
        again, *values = [bb.emit(relax.TupleGetItem(result, i)) for i in range(len(types))]
        rows = [bb.emit(relax.op.expand_dims(value, 0)) for value in values[count:]]
        return [again, *values[:count], *rows]

    def halves() -> _Exprs:
        half = bb.emit(relax.op.right_shift(steps, one))
        middle = bb.emit(relax.op.add(first, half))
        left = call(half, first, go, *carried)
        right = call(bb.emit(relax.op.subtract(steps, half)), middle, *left[: 1 + count])
        pairs = zip(left[1 + count :], right[1 + count :], strict=True)
        return [*right[: 1 + count], *(bb.emit(relax.op.concat(list(p), 0)) for p in pairs)]

    def several() -> _Exprs:
        result = branch(bb, bb.emit(relax.op.equal(steps, one)), once, halves)
        return [bb.emit(relax.TupleGetItem(result, i)) for i in range(len(types))]

    def nothing() -> _Exprs:
        empty = [bb.emit(relax.op.zeros([0, *ty.shape], ty.dtype)) for ty in made]
        return [go, *carried, *empty]

    def body() -> _Exprs:
        left = bb.emit(relax.op.logical_and(go, bb.emit(relax.op.greater(steps, none))))
        result = branch(bb, left, several, nothing)
        return [bb.emit(relax.TupleGetItem(result, i)) for i in range(len(types))]

    function = function_of(bb, params, body, straight=False)
    declared = relax.Function(function.params, function.body, returned)
    bb.update_func(reference, copy_with_new_vars(declared))
    return reference


def _told(before: relax.TensorType, after: relax.TensorType) -> relax.TensorType:
    """Return what is known of a value after any number of steps."""
    if not _changed(before, after):
        return before
    return relax.TensorType(dtype=before.dtype, ndim=before.ndim)


def _elements(bb: _Bb, values: relax.Expr) -> _Exprs:
    return [bb.emit(relax.TupleGetItem(values, i)) for i in range(len(values.ty.fields))]


def _rows(bb: _Bb, value: relax.Expr, row: list[Any]) -> relax.Expr:
    """Return what was collected as any number of rows, each of the shape `row`."""
    return bb.match_cast(value, relax.TensorType([_new_size(), *row], value.ty.dtype))


def named_dims(bb: _Bb, value: relax.Expr) -> relax.Expr:
    """Return a tensor whose dimensions have names where they were not known; others as they are."""
    ty = value.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is not None or ty.ndim < 0:
        return value
    return bb.match_cast(value, relax.TensorType([_new_size() for _ in range(ty.ndim)], ty.dtype))


def _new_size() -> tirx.Var:
    return tirx.Var("size", "int64")


def of_length(bb: _Bb, value: relax.Expr, length: Any) -> relax.Expr:
    """Return a tensor whose axis 0 is known to be `length`, a number or a dimension, long."""
    return bb.match_cast(
        value, relax.TensorType([length, *list(value.ty.shape)[1:]], value.ty.dtype)
    )


def _scalar(name: str, dtype: str) -> relax.Var:
    return relax.Var(name, relax.TensorType([], dtype))


def take_step(
    bb: _Bb, values: relax.Expr, number: relax.Expr, axis: int, *, backwards: bool
) -> relax.Expr:
    """Return element `number` of `values` along `axis`, counted from its end if `backwards`."""
    if backwards:
        last = relax.op.shape_to_tensor(relax.ShapeExpr([values.ty.shape[axis] - 1]))
        last = bb.emit(relax.op.reshape(bb.emit(last), []))
        number = bb.emit(relax.op.subtract(last, number))
    return bb.emit(relax.op.take(values, number, axis, mode="clip"))
