"""Which signed integers hold the bits of a float: arithmetic on them wraps round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import ir
from tvm.ir.prim import expr as prim

if TYPE_CHECKING:
    from tvm_vacc.codegen_c.expressions.printer import Printer


def wraps(e: Printer, expr: Any) -> bool:
    """Tell whether signed arithmetic on `expr` is arithmetic on a float's bits."""
    if str(expr.ty.dtype) != "int32":
        return False
    if isinstance(expr, prim.LShift):
        return True
    if isinstance(expr, ir.Call):
        return expr.op.name == "tirx.reinterpret"
    if isinstance(expr, ir.Var):
        return e.variables.get(expr) in e.wrapping
    if isinstance(expr, prim.RShift):
        return wraps(e, expr.a)
    if isinstance(expr, (prim.Add, prim.Sub, prim.Mul)):
        return wraps(e, expr.a) or wraps(e, expr.b)
    return False
