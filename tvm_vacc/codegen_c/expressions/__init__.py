"""Prints TIR expressions as C; a file for each kind of expression."""

from __future__ import annotations

from tvm_vacc.codegen_c.expressions import arithmetic, calls, lanes, logic, values
from tvm_vacc.codegen_c.expressions.printer import Printer
from tvm_vacc.codegen_c.lines import Names
from tvm_vacc.codegen_c.vectors import VectorFunctions


def expression_printer(kernel: str, vectors: VectorFunctions, names: Names) -> Printer:
    """Return a printer of the expressions of one kernel; the arguments are its attributes."""
    forms = {
        **values.FORMS,
        **arithmetic.FORMS,
        **logic.FORMS,
        **lanes.FORMS,
        **calls.FORMS,
    }
    return Printer(kernel, vectors, names, forms)
