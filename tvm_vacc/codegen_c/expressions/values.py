"""Constants, variables, loads, conversions of values, and bindings within an expression."""

from __future__ import annotations

from typing import Any

from tvm import ir
from tvm.ir.prim import expr as prim

from tvm_vacc.codegen_c.c_types import CType, c_type, c_type_of
from tvm_vacc.codegen_c.expressions.printer import (
    ATOM,
    UNARY,
    Form,
    Printed,
    Printer,
    from_float,
    to_float,
)
from tvm_vacc.codegen_c.numbers import number

_FLOAT = CType("float32")


def _integer(_: Printer, expr: Any) -> Printed:
    value, base = int(expr.value), str(expr.ty.dtype)
    if base == "bool":
        return ("true" if value else "false"), ATOM
    if base == "uint64":
        return f"UINT64_C({value})", ATOM
    if base == "uint32":
        return f"{value % 2**32}u", ATOM
    if value == -(2**31):
        return "INT32_MIN", ATOM
    if not -(2**31) <= value < 2**31:
        return f"INT64_C({value})", ATOM
    return str(value), ATOM if value >= 0 else UNARY


def _number(_: Printer, expr: Any) -> Printed:
    ctype, value = c_type_of(expr), float(expr.value)
    if ctype.is_half:
        return from_float(ctype, number(value, _FLOAT)), ATOM
    return number(value, ctype), UNARY if value < 0 else ATOM


def _variable(e: Printer, expr: Any) -> Printed:
    if expr in e.pointers:
        return e.use(e.pointers[expr].name), ATOM
    return e.use(e.variables[expr]), ATOM


def _load(e: Printer, expr: Any) -> Printed:
    pointer = e.pointers[expr.source]
    [index] = expr.indices
    lanes = c_type_of(index).lanes
    if lanes == 1:
        return e.element(pointer, index), ATOM
    if pointer.element.base == "bool":
        raise e.refuse("a vector of bools in memory")
    ctype = CType(pointer.element.base, lanes)
    index = e.analyzer.simplify(index)
    if isinstance(index, prim.Ramp) and is_one(index.stride):
        function = e.vectors.memory("load", ctype)
        return f"{function}({e.address(expr.source, index.base)})", ATOM
    if isinstance(index, prim.Broadcast):
        splat = e.vectors.memory("splat", ctype)
        return f"{splat}({e.element(pointer, index.value)})", ATOM
    if pointer.is_punned:
        raise e.refuse("a gather from memory of several types")
    function = e.vectors.gather(ctype, c_type_of(index))
    return f"{function}({e.use(pointer.name)}, {e.text(index)})", ATOM


def _cast(e: Printer, expr: Any) -> Printed:
    to, source = c_type_of(expr), c_type_of(expr.value)
    if to.lanes > 1:
        return _vector_cast(e, expr, to, source), ATOM
    if source.is_half:
        value = to_float(source, e.text(expr.value))
        if to.base == "float32":
            return value, ATOM
        if to.is_half:
            return from_float(to, value), ATOM
        return f"({to.scalar}){value}", UNARY
    if to.is_half:
        return from_float(to, f"(float){e.text(expr.value, UNARY)}"), ATOM
    if isinstance(expr.value, ir.Var) and e.types.get(e.variables[expr.value]) == to.name:
        return e.print(expr.value)  # a loop variable, wider in C than in TIR
    return f"({to.scalar}){e.text(expr.value, UNARY)}", UNARY


def _vector_cast(e: Printer, expr: Any, to: CType, source: CType) -> str:
    text = e.text(expr.value)
    if c_type(expr.value.ty.dtype).base == "bool":  # a mask
        one = f"{e.vectors.memory('splat', source)}(1)"
        text = f"{e.vectors.binary('and', source)}({text}, {one})"
    if to == source:
        return text
    halves = to.is_half or source.is_half
    if halves and "float32" not in (to.base, source.base):
        middle = to.of("float32")
        text = f"{e.vectors.convert(middle, source)}({text})"
        source = middle
    return f"{e.vectors.convert(to, source)}({text})"


def _let(e: Printer, expr: Any) -> Printed:
    outer, e.uses = e.uses, set()
    e.bind(expr.var, expr.value, "let")
    e.uses = outer
    return e.print(expr.body)


def is_one(expr: Any) -> bool:
    """Tell whether an expression is the constant 1."""
    return isinstance(expr, prim.IntImm) and int(expr.value) == 1


FORMS: dict[type, Form] = {
    prim.IntImm: _integer,
    prim.FloatImm: _number,
    ir.Var: _variable,
    ir.TensorLoad: _load,
    prim.Cast: _cast,
    prim.Let: _let,
}
