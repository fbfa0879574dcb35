"""Prints the statements of one function, a kernel's or that of a parallel loop within it."""

from __future__ import annotations

from functools import singledispatchmethod
from typing import Any

from tvm import ir, tirx
from tvm.ir.prim import expr as prim
from tvm.sym.analyzer import ConstIntBound

from tvm_vacc.codegen_c.c_types import CType, c_type_of
from tvm_vacc.codegen_c.expressions.calls import prefetch
from tvm_vacc.codegen_c.expressions.printer import Printer, prefix_of
from tvm_vacc.codegen_c.expressions.values import is_one
from tvm_vacc.codegen_c.function import Function, Scratch
from tvm_vacc.codegen_c.memory import Memory, element_of, is_pointer
from tvm_vacc.codegen_c.task import natural_order, print_task

STACK_BYTES = 4096
"""Largest local array; what is larger, or of a size known when it runs, is allocated."""

_TRANSPARENT = ("pragma_parallel_launch_point", "pragma_parallel_stride_pattern")
"""Attributes that say how TVM's own threads take the tasks."""


class StatementPrinter:
    """Prints statements into the lines of a `Printer`.

    Attributes:
        tasks: the functions of parallel loops, complete, in the order they must be defined.
    """

    def __init__(self, expressions: Printer, memory: Memory, function: Function) -> None:
        self.e = expressions
        self.memory = memory
        self.function = function
        self.tasks: list[str] = []

    def finish(self) -> str:
        """Return the lines of the function: scratch memory, what was printed, what it returns."""
        return self.function.body(self.e.lines)

    def used_names(self) -> frozenset[str]:
        """Return the names that the function uses, of its own and from outside."""
        return self.function.used_names(self.e.lines)

    @singledispatchmethod
    def print(self, statement: Any) -> None:
        """Print one statement."""
        raise self.e.refuse(f"a statement of the kind {type(statement).__name__}")

    @print.register(tirx.SeqStmt)
    def _sequence(self, statement: Any) -> None:
        for item in statement.seq:
            self.print(item)

    @print.register(tirx.AttrStmt)
    def _attribute(self, statement: Any) -> None:
        if statement.attr_key not in _TRANSPARENT:
            raise self.e.refuse(f"the attribute {statement.attr_key}")
        self.print(statement.body)

    @print.register(tirx.Bind)
    def _bind(self, statement: Any) -> None:
        var, value = statement.var, statement.value
        if not is_pointer(var):
            self.e.bind(var, value, prefix_of(c_type_of(value)))
            return
        pointer = self.memory.pointer(value.args[0].source, self.e.names.numbered("pointer"))
        address = self.e.text(value)
        self.e.pointers[var] = pointer
        self.e.types[pointer.name] = pointer.declaration
        self.e.emit(f"{pointer.declaration}const {pointer.name} = {address};", pointer.name)

    @print.register(tirx.DeclBuffer)
    def _view(self, statement: Any) -> None:
        buffer, data = statement.buffer, statement.data
        source = data.args[0] if isinstance(data, ir.Call) else data
        if not isinstance(buffer.ty.elem_offset, prim.IntImm) or int(buffer.ty.elem_offset):
            raise self.e.refuse("a view that begins within its memory")
        known = self.e.pointers[source]
        if known.element.scalar == element_of(buffer).scalar:
            self.e.pointers[buffer] = self.memory.pointer(buffer, known.name)
            return
        view = self.memory.pointer(buffer, self.e.names.numbered("view"))
        cast = view.declaration.rstrip()
        self.e.use(known.name)
        self.e.pointers[buffer] = view
        self.e.types[view.name] = view.declaration
        text = f"{view.declaration}const {view.name} = ({cast})(void *){known.name};"
        self.e.emit(text.replace("(void *)", "") if view.is_constant else text, view.name)

    @print.register(tirx.AllocBuffer)
    def _allocate(self, statement: Any) -> None:
        buffer = statement.buffer
        element = element_of(buffer)
        count: Any = 1
        for dim in buffer.ty.shape:
            count = count * dim
        count = self.e.analyzer.simplify(count) if not isinstance(count, int) else count
        fixed = int(count) if isinstance(count, (int, prim.IntImm)) else None
        if fixed is not None and fixed * element.scalar_bytes <= STACK_BYTES:
            name = self.e.names.numbered("local")
            self.e.pointers[buffer] = self.memory.pointer(buffer, name)
            self.e.types[name] = f"{element.scalar} *"
            self.e.emit(f"{element.scalar} {name}[{fixed}];", defines=name)
            return
        name = self.e.names.numbered("scratch")
        outer, self.e.uses = self.e.uses, set()
        with self.e.aside():
            text = str(fixed) if fixed is not None else f"(size_t)({self.e.text(count)})"
        uses, self.e.uses = frozenset(self.e.uses), outer
        if not uses <= self.function.known:
            raise self.e.refuse("scratch memory of a size that is computed within")
        self.function.scratch.append(Scratch(name, element.scalar, text, uses))
        self.e.pointers[buffer] = self.memory.pointer(buffer, name)
        self.e.types[name] = f"{element.scalar} *"

    @print.register(tirx.BufferStore)
    def _store(self, statement: Any) -> None:
        e, pointer = self.e, self.e.pointers[statement.buffer]
        [index] = statement.indices
        lanes = c_type_of(index).lanes
        value = e.text(statement.value)
        if lanes == 1:
            offset = e.index(index)
            name = e.use(pointer.name)
            if pointer.is_punned:
                e.emit(f"vacc_write_{pointer.element.suffix}(&{name}[{offset}], {value});")
            else:
                e.emit(f"{name}[{offset}] = {value};")
            return
        if pointer.element.base == "bool":
            raise e.refuse("a vector of bools in memory")
        ctype = CType(pointer.element.base, lanes)
        index = e.analyzer.simplify(index)
        if isinstance(index, prim.Ramp) and is_one(index.stride):
            function = e.vectors.memory("store", ctype)
            e.emit(f"{function}({e.address(statement.buffer, index.base)}, {value});")
            return
        if pointer.is_punned:
            raise e.refuse("a scatter into memory of several types")
        function = e.vectors.scatter(ctype, c_type_of(index))
        e.emit(f"{function}({e.use(pointer.name)}, {e.text(index)}, {value});")

    @print.register(tirx.Evaluate)
    def _evaluate(self, statement: Any) -> None:
        if isinstance(statement.value, prim.IntImm):
            return
        text = prefetch(self.e, statement.value)
        if text is None:
            raise self.e.refuse(f"a call of {statement.value.op.name}")
        self.e.emit(text)

    @print.register(tirx.IfThenElse)
    def _if(self, statement: Any) -> None:
        self.e.emit(f"if ({self.e.text(statement.condition)}) {{")
        self._block(statement.then_case)
        if statement.else_case is not None:
            self.e.emit("} else {")
            self._block(statement.else_case)
        self.e.emit("}")

    @print.register(tirx.While)
    def _while(self, statement: Any) -> None:
        with self.e.aside() as hoisted:
            condition = self.e.text(statement.condition)
        if hoisted:
            raise self.e.refuse("a binding in the condition of a loop")
        self.e.emit(f"while ({condition}) {{")
        self._block(statement.body)
        self.e.emit("}")

    @print.register(tirx.For)
    def _for(self, statement: Any) -> None:
        if statement.step is not None and not is_one(statement.step):
            raise self.e.refuse("a loop with a step")
        kind = tirx.ForKind(statement.kind)
        if kind == tirx.ForKind.PARALLEL:
            self._parallel(statement)
            return
        if kind not in (tirx.ForKind.SERIAL, tirx.ForKind.UNROLLED):
            raise self.e.refuse(f"a loop of the kind {kind.name}")
        e = self.e
        ctype = CType("int64")  # whatever TIR has: indices are, and need no casts then
        first = e.index(statement.min)
        end = e.text(e.analyzer.simplify(statement.min + statement.extent), 6)
        name = e.names.numbered("i")
        e.emit(f"for ({ctype.name} {name} = {first}; {name} < {end}; ++{name}) {{")
        self._enter_loop(statement, name, ctype)
        self._block(statement.body)
        e.emit("}")

    def _enter_loop(self, statement: Any, name: str, ctype: CType) -> None:
        self.e.variables[statement.loop_var] = name
        self.e.types[name] = ctype.name
        lowest = self.e.analyzer.const_int_bound(statement.min).min_value
        extent = self.e.analyzer.const_int_bound(statement.extent).max_value
        highest = self.e.analyzer.const_int_bound(statement.min).max_value + extent - 1
        limit = ConstIntBound.POS_INF
        bound = ConstIntBound(lowest, min(highest, limit) if extent < limit else limit)
        self.e.analyzer.update(statement.loop_var, bound, True)

    def _block(self, statement: Any) -> None:
        self.e.depth += 1
        self.print(statement)
        self.e.depth -= 1

    def _parallel(self, statement: Any) -> None:
        """Move the loop's body into a function of its own, with a struct of what it uses."""
        e = self.e
        if int(statement.min) != 0:
            raise e.refuse("a parallel loop that does not begin at 0")
        count = e.text(statement.extent)
        count_uses, e.uses = frozenset(e.uses), set()
        outside, lines, depth = dict(e.types), e.lines, e.depth
        e.lines, e.depth = [], 1
        inner = StatementPrinter(e, self.memory, Function(frozenset(outside)))
        ctype = c_type_of(statement.loop_var)
        self._enter_loop(statement, "task", ctype)
        inner.print(statement.body)
        used = inner.used_names()
        captured = sorted(used & outside.keys() - {"task", "status"}, key=natural_order)
        text = inner.finish()
        e.lines, e.depth, e.types = lines, depth, outside
        name = e.names.numbered(f"{e.kernel}_part")
        index = ctype if "task" in used else None
        self.tasks += [*inner.tasks, print_task(name, captured, outside, text, index)]
        e.uses = {*count_uses, *captured, "status"}
        values = ", ".join(captured) or "0"
        e.emit(f"const struct {name} {name}_arguments = {{{values}}};")
        call = f"vacc_parallel_for({name}, &{name}_arguments, {count})"
        e.uses = {*count_uses, "status"}
        e.emit(f"status |= {call};")
