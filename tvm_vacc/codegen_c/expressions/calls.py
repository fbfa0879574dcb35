"""Calls of TIR's operators: mathematics, addresses, bits, prefetches."""

from __future__ import annotations

from typing import Any, Final

from tvm import ir
from tvm.target.codegen import llvm_lookup_intrinsic_id

from tvm_vacc.codegen_c.c_types import CType, c_type_of
from tvm_vacc.codegen_c.expressions.logic import choice
from tvm_vacc.codegen_c.expressions.printer import ATOM, UNARY, Form, Printed, Printer
from tvm_vacc.codegen_c.math_functions import CLASSIFY, MATH, OURS
from tvm_vacc.codegen_c.memory import ADDRESS_OF

_PREFETCH: Final = "llvm.prefetch"


def _call(e: Printer, expr: Any) -> Printed:
    name = expr.op.name
    if name == ADDRESS_OF:
        load = expr.args[0]
        return e.address(load.source, load.indices[0]), UNARY
    ctype = c_type_of(expr)
    if name == "prim.if_then_else":
        condition, left, right = expr.args
        return choice(e, condition, left, right, ctype)
    if name == "tirx.reinterpret":
        source = c_type_of(expr.args[0])
        text, strength = e.print(expr.args[0])
        if source.lanes == ctype.lanes == 1 and source.scalar_bytes == 2:
            return text, strength  # one type of C, whatever it means
        return f"{e.vectors.reinterpret(ctype, source)}({text})", ATOM
    if name == "tirx.likely":
        return e.print(expr.args[0])
    return _mathematics(e, expr, name, ctype), ATOM


def _mathematics(e: Printer, expr: Any, name: str, ctype: CType) -> str:
    argument = c_type_of(expr.args[0]) if expr.args else ctype
    arguments = ", ".join(map(e.text, expr.args))
    if name in OURS:
        function = f"vacc_{OURS[name]}_{CType(argument.base).suffix}"
    elif name in CLASSIFY and ctype.lanes == 1 and not argument.is_half:
        return f"{CLASSIFY[name]}({arguments})"
    elif name in MATH:
        function = MATH[name] + ("f" if argument.base == "float32" else "")
    else:
        raise e.refuse(f"a call of {name}")
    if argument.base not in ("float32", "float64"):
        raise e.refuse(f"{name} of {argument.base}")
    if ctype.lanes == 1:
        return f"{function}({arguments})"
    if len(expr.args) != 1:
        raise e.refuse(f"{name} of vectors")
    return f"{e.vectors.map(function, ctype)}({arguments})"


def prefetch(e: Printer, call: Any) -> str | None:
    """Return the statement for a prefetch; None where `call` is something else."""
    if call.op.name != "tirx.call_llvm_intrin" or not _is_intrinsic(call.args[0], _PREFETCH):
        return None
    address, _write, locality, _data = call.args[1:]
    return f"VACC_PREFETCH({e.text(address)}, {e.text(locality)});"


def _is_intrinsic(which: Any, name: str) -> bool:
    if isinstance(which, ir.StringImm):
        return bool(which.value == name)
    return int(which) == llvm_lookup_intrinsic_id(name)


FORMS: dict[type, Form] = {ir.Call: _call}
