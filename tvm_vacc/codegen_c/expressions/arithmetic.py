"""Sums, products, quotients, minima and maxima, and operators on bits."""

from __future__ import annotations

from typing import Any

from tvm.ir.prim import expr as prim

from tvm_vacc.codegen_c.c_types import CType, c_type_of
from tvm_vacc.codegen_c.expressions.printer import (
    ATOM,
    BIT,
    PRODUCT,
    SUM,
    UNARY,
    Form,
    Printed,
    Printer,
    from_float,
    refuse_halves,
    to_float,
)
from tvm_vacc.codegen_c.expressions.wrapping import wraps

_ARITHMETIC: dict[type, tuple[str, str, int]] = {
    prim.Add: ("+", "add", SUM),
    prim.Sub: ("-", "sub", SUM),
    prim.Mul: ("*", "mul", PRODUCT),
    prim.Div: ("/", "div", PRODUCT),
    prim.Mod: ("%", "mod", PRODUCT),
}
_BITS: dict[type, tuple[str, str]] = {
    prim.BitwiseAnd: ("&", "and"),
    prim.BitwiseOr: ("|", "or"),
    prim.BitwiseXor: ("^", "xor"),
    prim.LShift: ("<<", "shl"),
    prim.RShift: (">>", "shr"),
}


def _arithmetic(e: Printer, expr: Any) -> Printed:
    symbol, action, strength = _ARITHMETIC[type(expr)]
    ctype = c_type_of(expr)
    if ctype.lanes > 1:
        return vector_binary(e, action, ctype, expr), ATOM
    if ctype.is_half:
        halves = [f"{to_float(ctype, e.text(x))}" for x in (expr.a, expr.b)]
        return from_float(ctype, f"{halves[0]} {symbol} {halves[1]}"), ATOM
    if action == "mod" and ctype.is_float:
        raise e.refuse("the remainder of floats")
    if wraps(e, expr):
        a, b = e.text(expr.a), e.text(expr.b)
        return f"vacc_wrapping_{action}_{ctype.suffix}({a}, {b})", ATOM
    # Subtraction and division do not associate, and fp sums and products must not.
    right = strength + (ctype.is_float or action not in ("add", "mul"))
    text = f"{e.text(expr.a, strength)} {symbol} {e.text(expr.b, right)}"
    if ctype.scalar_bytes < 4:
        return f"({ctype.scalar})({text})", UNARY
    return text, strength


def _bitwise(e: Printer, expr: Any) -> Printed:
    symbol, action = _BITS[type(expr)]
    ctype = c_type_of(expr)
    if ctype.lanes > 1:
        return vector_binary(e, action, ctype, expr), ATOM
    a, b = e.text(expr.a, ATOM), e.text(expr.b, ATOM)
    if action == "shl" and ctype.is_signed:
        return f"vacc_wrapping_shl_{ctype.suffix}({a}, {b})", ATOM
    text = f"{a} {symbol} {b}"
    return (f"({ctype.scalar})({text})", UNARY) if ctype.scalar_bytes < 4 else (text, BIT)


def _complement(e: Printer, expr: Any) -> Printed:
    ctype = c_type_of(expr)
    if ctype.lanes > 1:
        flip = f"{e.vectors.memory('splat', ctype)}(({ctype.scalar})-1)"
        return f"{e.vectors.binary('xor', ctype)}({e.text(expr.a)}, {flip})", ATOM
    return f"({ctype.scalar})~{e.text(expr.a, UNARY)}", UNARY


def _extreme(e: Printer, expr: Any) -> Printed:
    action = "min" if isinstance(expr, prim.Min) else "max"
    ctype = c_type_of(expr)
    refuse_halves(e, ctype)
    if ctype.lanes > 1:
        function = e.vectors.extreme(action, ctype)
    else:
        function = f"vacc_{action}_{ctype.suffix}"
    return f"{function}({e.text(expr.a)}, {e.text(expr.b)})", ATOM


def _floor_division(e: Printer, expr: Any) -> Printed:
    symbol, action = ("/", "div") if isinstance(expr, prim.FloorDiv) else ("%", "mod")
    ctype = c_type_of(expr)
    if ctype.lanes > 1 or ctype.is_float:
        raise e.refuse("a floor division of vectors or floats")
    never_negative = e.analyzer.const_int_bound(expr.a).min_value >= 0
    if not ctype.is_signed or (never_negative and e.analyzer.const_int_bound(expr.b).min_value > 0):
        a, b = e.text(expr.a, PRODUCT), e.text(expr.b, UNARY)
        return f"{a} {symbol} {b}", PRODUCT
    return f"vacc_floor{action}_{ctype.suffix}({e.text(expr.a)}, {e.text(expr.b)})", ATOM


def vector_binary(e: Printer, action: str, ctype: CType, expr: Any) -> str:
    """Return the call of the vector function for an operator of two operands."""
    refuse_halves(e, ctype)
    if action == "mod":
        raise e.refuse("the remainder of vectors")
    function = e.vectors.binary(action, ctype)
    return f"{function}({e.text(expr.a)}, {e.text(expr.b)})"


FORMS: dict[type, Form] = {
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_BITS, _bitwise),
    **dict.fromkeys((prim.Min, prim.Max), _extreme),
    **dict.fromkeys((prim.FloorDiv, prim.FloorMod), _floor_division),
    prim.BitwiseNot: _complement,
}
