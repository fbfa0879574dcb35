"""What the values of a Relax function are in C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import ir, relax

PLAIN_ALIASES = ("relax.reshape", "relax.memory.view")
"""Operators whose result is their argument's memory."""


@dataclass(frozen=True)
class Value:
    """What a Relax variable is: a pointer, elements of a tuple, or an address in a storage."""

    text: str = ""
    fields: tuple[Value, ...] = ()
    uses: frozenset[str] = frozenset()


def is_alias(value: Any) -> bool:
    """Tell whether a bound value is another name for its first argument."""
    return (
        isinstance(value, relax.Call)
        and isinstance(value.op, ir.Op)
        and value.op.name in PLAIN_ALIASES
    )


def dims_of(function: Any) -> list[Any]:
    """Return the symbolic dimensions of a function's parameters, in the order of appearance."""
    found: dict[Any, None] = {}

    def visit(ty: Any) -> None:
        if isinstance(ty, relax.TupleType):
            for item in ty.fields:
                visit(item)
        elif isinstance(ty, relax.TensorType) and ty.shape is not None:
            for dim in ty.shape:
                if isinstance(dim, ir.Var):
                    found[dim] = None

    for parameter in function.params:
        visit(parameter.ty)
    return list(found)
