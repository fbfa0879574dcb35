"""What a kernel's buffers are in C: pointers, which of them share memory, which are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvm import ir, tirx

from tvm_vacc.codegen_c.c_types import CType, c_type

BUFFER_DATA = "tirx.buffer_data"
ADDRESS_OF = "tirx.address_of"


@dataclass(frozen=True)
class Pointer:
    """A buffer's name in C and what it points to.

    Attributes:
        name: of the variable, a pointer or an array.
        element: what it points to, a scalar type.
        is_constant: nothing in the kernel writes the memory.
        is_punned: the memory is accessed as several types, so that C's aliasing rules demand
            copies instead of plain accesses.
    """

    name: str
    element: CType
    is_constant: bool
    is_punned: bool

    @property
    def declaration(self) -> str:
        """The type of a variable that holds the pointer."""
        return f"{'const ' if self.is_constant else ''}{self.element.scalar} *"


@dataclass
class Memory:
    """Which buffers of a kernel share memory, found before it is printed."""

    _roots: dict[Any, Any] = field(default_factory=dict)
    _types: dict[Any, set[str]] = field(default_factory=dict)
    _written: set[Any] = field(default_factory=set)

    def root(self, buffer: Any) -> Any:
        """Return the buffer whose memory `buffer` is a view of: itself, where it has its own."""
        while buffer in self._roots:
            buffer = self._roots[buffer]
        return buffer

    def pointer(self, buffer: Any, name: str) -> Pointer:
        """Describe `buffer`, which is called `name` in C."""
        root = self.root(buffer)
        return Pointer(
            name,
            element_of(buffer),
            is_constant=root not in self._written,
            is_punned=len(self._types.get(root, ())) > 1,
        )

    def scan(self, statement: Any) -> None:
        """Take account of `statement` and all within it, in the order of execution."""
        if isinstance(statement, tirx.SeqStmt):
            for item in statement.seq:
                self.scan(item)
        elif isinstance(statement, (tirx.For, tirx.While, tirx.AttrStmt)):
            self.scan(statement.body)
        elif isinstance(statement, tirx.IfThenElse):
            self.scan(statement.then_case)
            if statement.else_case is not None:
                self.scan(statement.else_case)
        elif isinstance(statement, tirx.BufferStore):
            self._written.add(self.root(statement.buffer))
        elif isinstance(statement, tirx.AllocBuffer):
            self._note(statement.buffer)
        elif isinstance(statement, tirx.DeclBuffer):
            self._roots[statement.buffer] = self.root(source_of(statement.data))
            self._note(statement.buffer)
        elif isinstance(statement, tirx.Bind) and is_pointer(statement.var):
            self._roots[statement.var] = self.root(source_of(statement.value))

    def _note(self, buffer: Any) -> None:
        self._types.setdefault(self.root(buffer), set()).add(element_of(buffer).scalar)


def is_pointer(var: Any) -> bool:
    """Tell whether a variable holds an address."""
    return isinstance(var.ty, ir.PointerType)


def source_of(data: Any) -> Any:
    """Return the buffer or pointer variable that an address is taken from."""
    if isinstance(data, ir.Call) and data.op.name == BUFFER_DATA:
        return data.args[0]
    if isinstance(data, ir.Call) and data.op.name == ADDRESS_OF:
        return data.args[0].source
    return data


def element_of(buffer: Any) -> CType:
    """Return the scalar type of a buffer's elements."""
    return c_type(buffer.ty.dtype.dtype)
