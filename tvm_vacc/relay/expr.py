"""Variables, constants, tuples and functions, as Relay spelt them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay import explain
from tvm_vacc.relay.infer import typed

Tuple = relax.Tuple
TupleGetItem = relax.TupleGetItem
Call = relax.Call
Var = relax.Var
Constant = tvm.ir.GenericConst

_ANY = itertools.count()


def any_dim() -> tirx.Var:
    """Return a dimension of any size, other than every other: `relay.Any`.

    Where two tensors share a dimension, give it to both, or the same name to both.
    """
    return tirx.Var(f"any{next(_ANY)}", "int64")


def TensorType(  # noqa: N802 Relay's name
    shape: Sequence[Any], dtype: str = "float32"
) -> relax.TensorType:
    """Return the type of a tensor: Relax's own has no default dtype."""
    return relax.TensorType(list(shape), dtype)


def var(
    name_hint: str,
    type_annotation: relax.Type | None = None,
    shape: Sequence[Any] | None = None,
    dtype: str = "float32",
) -> relax.Var:
    """Return a variable.

    Args:
        name_hint: its name; inputs are set by it.
        type_annotation: its type, in place of `shape` and `dtype`.
        shape: dimensions: ints, `relay.Any()`, or names of symbolic dimensions.
        dtype: of the elements.

    Raises:
        ConfigError: neither a type nor a shape is given, or both are.
    """
    if (type_annotation is None) == (shape is None):
        raise ConfigError(
            f"relay.var {name_hint}: give a type or a shape, and one of them only",
            f'write relay.var("{name_hint}", shape=(1, 16), dtype="float32")',
        )
    if type_annotation is None:
        dims = [_named_dim(dim) if isinstance(dim, str) else dim for dim in shape or ()]
        type_annotation = relax.TensorType(dims, dtype)
    return explain.value(relax.Var(name_hint, type_annotation))


_DIMS: dict[str, tirx.Var] = {}


def _named_dim(name: str) -> tirx.Var:
    return _DIMS.setdefault(name, tirx.Var(name, "int64"))


def const(value: Any, dtype: str | None = None) -> relax.Expr:
    """Return a constant of a number, a list, a NumPy array or a TVM tensor.

    Python's floats become ``float32`` and ints ``int32``, as ever in Relay; arrays keep their
    dtype.
    """
    if isinstance(value, (bool, int, float, list, tuple)):
        array = np.array(value)
        narrow = {"int64": "int32", "float64": "float32"}
        value = array.astype(dtype or narrow.get(str(array.dtype), str(array.dtype)))
    return explain.value(relax.const(value, dtype))


class TupleWrapper:
    """A tuple of known length: what operators with several results return.

    Attributes:
        tuple_value: the expression.
        size: how many elements it has.
    """

    def __init__(self, tuple_value: relax.Expr, size: int) -> None:
        self.tuple_value = tuple_value
        self.size = size

    def astuple(self) -> relax.Expr:
        """Return the expression."""
        return self.tuple_value

    def __getitem__(self, index: int) -> relax.Expr:
        if not -self.size <= index < self.size:
            raise IndexError(f"element {index} of a tuple of {self.size}")
        return typed(relax.TupleGetItem(self.tuple_value, index % self.size))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[relax.Expr]:
        return (self[index] for index in range(self.size))


def Function(  # noqa: N802 Relay's name
    params: Sequence[relax.Var], body: relax.Expr | TupleWrapper, name: str = "main"
) -> relax.Function:
    """Return the function of `params` whose result is `body`.

    It is a Relax function, complete with types: `tvm.IRModule.from_expr` and `relay.build` take
    it.

    Raises:
        ConfigError: `body` reads a variable that is no parameter.
    """
    expr = body.astuple() if isinstance(body, TupleWrapper) else body
    typed(expr)
    given = set(params)
    for free in free_vars(expr):
        if free not in given:
            raise ConfigError(
                f"relay.Function: its body reads {free.name}, which is no parameter",
                "pass relay.analysis.free_vars(body) as the parameters",
            )
    builder = relax.BlockBuilder()
    with builder.function(name, list(params)):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(expr))
        builder.emit_func_output(result)
    module = builder.finalize()
    explain.function(params, expr)
    return module[name]


def free_vars(expr: relax.Expr) -> list[relax.Var]:
    """Return the variables that `expr` reads, in the order of reading.

    Relax's own analysis walks into a shared operand as often as it is used: with residuals layer
    upon layer, that never ends.
    """
    found: dict[int, relax.Var] = {}
    seen: set[int] = set()
    waiting = [expr]
    while waiting:
        each = waiting.pop()
        handle = each.__chandle__()
        if handle in seen:
            continue
        seen.add(handle)
        if isinstance(each, relax.Var) and not tvm.ir.is_prim_var(each):
            found[handle] = each
        elif isinstance(each, relax.Call):
            waiting += reversed(each.args)
        elif isinstance(each, relax.Tuple):
            waiting += reversed(each.fields)
        elif isinstance(each, relax.TupleGetItem):
            waiting.append(each.tuple_value)
    return list(found.values())
