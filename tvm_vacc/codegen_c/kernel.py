"""Prints one lowered kernel as a C function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import ir
from tvm.sym.analyzer import ConstIntBound

from tvm_vacc.codegen_c.expressions import expression_printer
from tvm_vacc.codegen_c.expressions.printer import Printer
from tvm_vacc.codegen_c.function import Function
from tvm_vacc.codegen_c.lines import Line, Names, render
from tvm_vacc.codegen_c.memory import Memory
from tvm_vacc.codegen_c.statements import StatementPrinter
from tvm_vacc.codegen_c.vectors import VectorFunctions

NO_ALIAS = "tirx.noalias"


@dataclass(frozen=True)
class Kernel:
    """A kernel as C.

    Attributes:
        name: of the function.
        prototype: its declaration, with a comment that gives its arguments' shapes and types.
        text: its definition, and those of the functions for its parallel loops before it.
        dims: where the arguments behind the tensors come from: the symbolic dimension ``axis`` of
            the tensor ``parameter``, as pairs (parameter, axis).
    """

    name: str
    prototype: str
    text: str
    dims: tuple[tuple[int, int], ...]


def print_kernel(name: str, function: Any, vectors: VectorFunctions) -> Kernel:
    """Print a kernel that `lower_kernels` has lowered.

    Args:
        name: of the C function.
        function: the PrimFunc.
        vectors: takes the vector functions that it needs.

    Raises:
        TargetError: it holds something that has no form in C.
    """
    memory = Memory()
    memory.scan(function.body)
    names = Names([name])
    printer = expression_printer(name, vectors, names)
    parameters = list(function.params)
    pointers = [memory.pointer(item, "") for item in parameters]
    for item, pointer in zip(parameters, pointers, strict=True):
        direction = "in" if pointer.is_constant else "out"
        chosen = names.exactly(item.name) if item.name else names.numbered(direction)
        printer.pointers[item] = memory.pointer(item, chosen)
        printer.types[chosen] = pointer.declaration
    dims: dict[str, tuple[int, int]] = {}
    for position, item in enumerate(parameters):
        for axis, dim in enumerate(item.ty.shape):
            if isinstance(dim, ir.Var) and dim not in printer.variables:
                is_named = dim.name not in ("", "v")
                chosen = names.exactly(dim.name) if is_named else names.numbered("n")
                printer.variables[dim] = chosen
                printer.types[chosen] = "int64_t"
                printer.analyzer.update(dim, ConstIntBound(0, ConstIntBound.POS_INF), True)
                dims[chosen] = (position, axis)
    statements = StatementPrinter(printer, memory, Function(frozenset(printer.types)))
    statements.print(function.body)
    used = statements.used_names()
    body = statements.finish()
    restrict = "restrict " if function.attrs and function.attrs.get(NO_ALIAS) else ""
    arguments = []
    for item in parameters:
        pointer = printer.pointers[item]
        arguments.append(f"{pointer.declaration}{restrict}{pointer.name}")
        if pointer.name not in used:
            body = f"    (void){pointer.name};\n{body}"
    taken = {chosen: where for chosen, where in dims.items() if chosen in used}
    arguments += [f"int64_t {chosen}" for chosen in taken]
    head = f"int {name}({', '.join(arguments)})"
    prototype = _describe(parameters, printer) + render([Line(f"{head};", 0)])
    opening = render([Line(f"{head} {{", 0)])
    text = "\n".join([*statements.tasks, f"{opening}{body}}}\n"])
    return Kernel(name, prototype, text, tuple(taken.values()))


def _describe(parameters: list[Any], printer: Printer) -> str:
    """Return a comment that gives the shape and type of each tensor, and which are written."""
    lines = []
    for item in parameters:
        pointer = printer.pointers[item]
        shape = ", ".join(map(printer.index, item.ty.shape))
        written = "" if pointer.is_constant else ", written"
        lines.append(f" * {pointer.name} [{shape}] {pointer.element.suffix}{written}\n")
    return "/*\n" + "".join(lines) + " */\n"
