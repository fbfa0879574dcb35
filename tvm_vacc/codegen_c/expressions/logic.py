"""Comparisons, conditions, and choices between two values."""

from __future__ import annotations

from typing import Any

from tvm.ir.prim import expr as prim

from tvm_vacc.codegen_c.c_types import CType, c_type_of
from tvm_vacc.codegen_c.expressions.arithmetic import vector_binary
from tvm_vacc.codegen_c.expressions.printer import (
    ATOM,
    CHOICE,
    COMPARISON,
    SUM,
    UNARY,
    Form,
    Printed,
    Printer,
    refuse_halves,
    to_float,
)
from tvm_vacc.codegen_c.lines import Line

_COMPARISONS: dict[type, tuple[str, str]] = {
    prim.LT: ("<", "lt"),
    prim.LE: ("<=", "le"),
    prim.GT: (">", "gt"),
    prim.GE: (">=", "ge"),
    prim.EQ: ("==", "eq"),
    prim.NE: ("!=", "ne"),
}


def _comparison(e: Printer, expr: Any) -> Printed:
    symbol, action = _COMPARISONS[type(expr)]
    ctype = c_type_of(expr.a)
    if ctype.lanes > 1:
        refuse_halves(e, ctype)
        function = e.vectors.compare(action, ctype)
        return f"{function}({e.text(expr.a)}, {e.text(expr.b)})", ATOM
    if ctype.is_half:
        a, b = (to_float(ctype, e.text(x)) for x in (expr.a, expr.b))
        return f"{a} {symbol} {b}", COMPARISON
    a, b = e.text(expr.a, SUM), e.text(expr.b, SUM)
    return f"{a} {symbol} {b}", COMPARISON


def _logical(e: Printer, expr: Any) -> Printed:
    is_and = isinstance(expr, prim.And)
    if c_type_of(expr).lanes > 1:
        return vector_binary(e, "and" if is_and else "or", c_type_of(expr), expr), ATOM
    left = _operand_of(e, expr.a, type(expr))
    with e.aside() as hoisted:
        right = _operand_of(e, expr.b, type(expr))
    if hoisted:  # the right side must not be computed where the left decides
        raise e.refuse("a binding in a condition")
    return f"{left} {'&&' if is_and else '||'} {right}", CHOICE


def _operand_of(e: Printer, expr: Any, kind: type) -> str:
    """Operands of ``&&`` and ``||``: the same operator goes on without parentheses."""
    return e.text(expr, 0 if isinstance(expr, kind) else COMPARISON)


def _not(e: Printer, expr: Any) -> Printed:
    ctype = c_type_of(expr)
    if ctype.lanes > 1:
        flip = f"{e.vectors.memory('splat', ctype)}(-1)"
        return f"{e.vectors.binary('xor', ctype)}({e.text(expr.a)}, {flip})", ATOM
    return f"!{e.text(expr.a, UNARY)}", UNARY


def _select(e: Printer, expr: Any) -> Printed:
    ctype = c_type_of(expr)
    if c_type_of(expr.condition).lanes == 1:
        return choice(e, expr.condition, expr.true_value, expr.false_value, ctype)
    function = e.vectors.select(ctype)
    parts = (expr.condition, expr.true_value, expr.false_value)
    return f"{function}({', '.join(map(e.text, parts))})", ATOM


def choice(e: Printer, condition: Any, left: Any, right: Any, ctype: CType) -> Printed:
    """Print a choice; only the chosen side is computed, its bindings too."""
    test = e.text(condition, COMPARISON)
    before, e.uses = e.uses, set()
    sides = []
    for side in (left, right):
        with e.aside() as hoisted:
            text = e.text(side, COMPARISON)
            sides.append((text, hoisted, frozenset(e.uses)))
            e.uses = set()
    if not any(hoisted for _, hoisted, _ in sides):
        e.uses = before.union(*(uses for _, _, uses in sides))
        return f"{test} ? {sides[0][0]} : {sides[1][0]}", CHOICE
    name = e.names.numbered("chosen")
    e.declare_type(ctype)
    e.lines.append(Line(f"{ctype.name} {name};", e.depth))
    for head, (text, hoisted, uses) in zip((f"if ({test}) {{", "} else {"), sides, strict=True):
        e.lines.append(Line(head, e.depth, frozenset(before)))
        e.lines.extend(hoisted)
        e.lines.append(Line(f"{name} = {text};", e.depth + 1, uses))
    e.lines.append(Line("}", e.depth))
    e.uses = {*before, name}
    return name, ATOM


FORMS: dict[type, Form] = {
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys((prim.And, prim.Or), _logical),
    prim.Not: _not,
    prim.Select: _select,
}
