"""Vectors made of scalars, and of the lanes of other vectors."""

from __future__ import annotations

from typing import Any

from tvm.ir.prim import expr as prim

from tvm_vacc.codegen_c.c_types import c_type_of
from tvm_vacc.codegen_c.expressions.printer import ATOM, COMPARISON, Form, Printed, Printer


def _broadcast(e: Printer, expr: Any) -> Printed:
    ctype = c_type_of(expr)
    inner = c_type_of(expr.value)
    if inner.lanes > 1:
        raise e.refuse("a vector repeated in a longer one")
    if inner.base == "bool":
        text = f"{e.text(expr.value, COMPARISON)} ? -1 : 0"
    else:
        text = e.text(expr.value)
    return f"{e.vectors.memory('splat', ctype)}({text})", ATOM


def _ramp(e: Printer, expr: Any) -> Printed:
    function = e.vectors.ramp(c_type_of(expr))
    return f"{function}({e.index(expr.base)}, {e.index(expr.stride)})", ATOM


def _shuffle(e: Printer, expr: Any) -> Printed:
    ctype, source = c_type_of(expr), c_type_of(expr.vectors[0])
    lanes = [int(index) for index in expr.indices]
    if source.lanes == 1:  # a vector made of scalars
        values = ", ".join(e.text(expr.vectors[lane]) for lane in lanes)
        load = e.vectors.memory("load", ctype)
        return f"{load}((const {ctype.scalar}[]){{{values}}})", ATOM
    if ctype.lanes == 1:
        vector = e.text(expr.vectors[lanes[0] // source.lanes])
        return f"VACC_LANE({vector}, {lanes[0] % source.lanes})", ATOM
    function = e.vectors.shuffle(ctype, source)
    vectors = f"(const {source.name}[]){{{', '.join(map(e.text, expr.vectors))}}}"
    table = f"(const uint8_t[]){{{', '.join(map(str, lanes))}}}"
    return f"{function}({vectors}, {table})", ATOM


FORMS: dict[type, Form] = {
    prim.Broadcast: _broadcast,
    prim.Ramp: _ramp,
    prim.Shuffle: _shuffle,
}
