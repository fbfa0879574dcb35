"""What all kinds of expressions share: names in scope, lines so far, how operators bind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tvm import ir
from tvm.ir.prim import expr as prim
from tvm.sym import Analyzer

from tvm_vacc.codegen_c.c_types import CType, c_type_of
from tvm_vacc.codegen_c.expressions.wrapping import wraps
from tvm_vacc.codegen_c.lines import Line, Names
from tvm_vacc.codegen_c.memory import Pointer
from tvm_vacc.codegen_c.vectors import VectorFunctions
from tvm_vacc.errors import TargetError

# How strongly C's operators bind. Bits have no rank: their operands always get parentheses.
ATOM, UNARY, PRODUCT, SUM, COMPARISON, CHOICE, BIT = 8, 7, 6, 5, 4, 2, 1

LONGEST = 80
"""Characters of an expression within another: longer ones get a name."""

Printed = tuple[str, int]
"""Text, and how strongly its outermost operator binds."""


class Printer:
    """Prints the expressions of one kernel, keeping account of the local names that they use.

    Attributes:
        kernel: its name, for messages.
        vectors: takes the vector functions that are needed.
        names: gives out local names.
        analyzer: knows the bounds of loop variables.
        variables: names in C of the variables in scope.
        pointers: the buffers and addresses in scope.
        types: of the names in scope, as C declares them.
        wrapping: names of variables that hold a float's bits.
        lines: of the function's body so far; bindings within an expression are added to them.
        depth: of the block that is being printed.
        uses: local names used since the last line.
        longest: characters of an expression within another that is not given a name.
    """

    def __init__(
        self,
        kernel: str,
        vectors: VectorFunctions,
        names: Names,
        forms: Mapping[type, Form],
    ) -> None:
        self.kernel = kernel
        self.vectors = vectors
        self.names = names
        self.analyzer = Analyzer()
        self.variables: dict[Any, str] = {}
        self.pointers: dict[Any, Pointer] = {}
        self.types: dict[str, str] = {}
        self.wrapping: set[str] = set()
        self.lines: list[Line] = []
        self.depth = 1
        self.uses: set[str] = set()
        self.longest = LONGEST
        self._asides = 0
        self._named: dict[str, str] = {}
        self._forms = forms

    def print(self, expr: Any) -> Printed:
        """Return `expr` in C, and how strongly its outermost operator binds."""
        form = self._forms.get(type(expr))
        if form is None:
            raise self.refuse(f"an expression of the kind {type(expr).__name__}")
        return form(self, expr)

    def text(self, expr: Any, strength: int = 0) -> str:
        """Return `expr` in C, in parentheses where it binds less than `strength`.

        What is long gets a name, and a line of its own before the one that is being printed.
        """
        outer, self.uses = self.uses, set()
        text, own = self.print(expr)
        if len(text) > self.longest and not self._asides and _may_have_name(expr):
            ctype = c_type_of(expr)
            if text not in self._named:
                self._named[text] = self._name(ctype, text, prefix_of(ctype))
            self.uses, text, own = {self._named[text]}, self._named[text], ATOM
        self.uses |= outer
        return f"({text})" if own < strength else text

    def index(self, expr: Any) -> str:
        """Return a scalar integer expression, simplified."""
        return self.text(self.analyzer.simplify(expr))

    def emit(self, text: str, defines: str = "") -> None:
        """Add a line that uses the names printed since the last one."""
        self._add(text, defines)
        self._named.clear()  # the next statement may find other values in memory

    def bind(self, var: Any, value: Any, prefix: str) -> None:
        """Declare a C variable for `var`; `prefix` begins its name."""
        ctype = c_type_of(value)
        if ctype.base in ("int32", "int64") and ctype.lanes == 1 and not wraps(self, value):
            value = self.analyzer.simplify(value)
            self.analyzer.update(var, self.analyzer.const_int_bound(value), True)
            if isinstance(value, prim.IntImm):
                self.analyzer.bind(var, value, True)
        is_wrapping = wraps(self, value)
        text, _ = self.print(value)
        name = self._name(ctype, text, prefix)
        if is_wrapping:
            self.wrapping.add(name)
        self.variables[var] = name

    def _name(self, ctype: CType, text: str, prefix: str) -> str:
        """Declare a variable that holds `text`."""
        name = self.names.numbered(prefix)
        self.declare_type(ctype)
        self.types[name] = ctype.name
        self._add(f"const {ctype.name} {name} = {text};", name)
        return name

    def _add(self, text: str, defines: str) -> None:
        self.lines.append(Line(text, self.depth, frozenset(self.uses), defines))
        self.uses = set()

    def use(self, name: str) -> str:
        """Note that the line being printed uses `name`."""
        self.uses.add(name)
        return name

    def refuse(self, what: str) -> TargetError:
        """Return the error for something that has no form in C."""
        return TargetError(
            f"kernel {self.kernel}: {what} cannot be printed as C", "compile for tvm_vacc instead"
        )

    def address(self, buffer: Any, index: Any) -> str:
        """Return the address of an element."""
        pointer = self.pointers[buffer]
        name, offset = self.use(pointer.name), self.index(index)
        return name if offset == "0" else f"&{name}[{offset}]"

    def element(self, pointer: Pointer, index: Any) -> str:
        """Return an element as it is read."""
        name, offset = self.use(pointer.name), self.index(index)
        if pointer.is_punned:
            return f"vacc_read_{pointer.element.suffix}(&{name}[{offset}])"
        return f"{name}[{offset}]"

    def declare_type(self, ctype: CType) -> None:
        """Note that the kernel needs a vector type."""
        if ctype.lanes > 1:
            self.vectors.type(ctype)

    @contextmanager
    def aside(self) -> Iterator[list[Line]]:
        """Collect the lines that an expression adds in a list of their own, one block deeper.

        Nothing gets a name there only because it is long.
        """
        kept, self.lines = self.lines, []
        self.depth += 1
        self._asides += 1
        try:
            yield self.lines
        finally:
            self._asides -= 1
            self.depth -= 1
            self.lines = kept


Form = Callable[[Printer, Any], Printed]
"""Prints one kind of expression."""


def prefix_of(ctype: CType) -> str:
    """Return what the name of a variable begins with: a vector, a condition, a number."""
    if ctype.lanes > 1:
        return "v"
    return {"bool": "is", "float32": "x", "float64": "x"}.get(ctype.base, "n")


def _may_have_name(expr: Any) -> bool:
    """Tell whether an expression is a value that a variable can hold; conditions are not named."""
    return not isinstance(expr.ty, ir.PointerType) and str(expr.ty.dtype) != "bool"


def refuse_halves(e: Printer, ctype: CType) -> None:
    """Refuse arithmetic that C99 has no type for.

    Raises:
        TargetError: `ctype` is a 16-bit float.
    """
    if ctype.is_half:
        raise e.refuse(f"arithmetic in {ctype.base}")


def to_float(ctype: CType, text: str) -> str:
    """Return the fp32 of a 16-bit float."""
    return f"vacc_f32_from_{ctype.suffix}({text})"


def from_float(ctype: CType, text: str) -> str:
    """Return the 16-bit float of an fp32."""
    return f"vacc_{ctype.suffix}_from_f32({text})"
