"""Prints TIR expressions as C, keeping account of the local names that they use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatchmethod
from typing import Any

from tvm import ir
from tvm.ir.prim import expr as prim
from tvm.sym import Analyzer

from tvm_vacc.codegen_c.c_types import CType, c_type, c_type_of
from tvm_vacc.codegen_c.calls import CLASSIFY, MATH, PREFETCH
from tvm_vacc.codegen_c.lines import Line, Names
from tvm_vacc.codegen_c.memory import ADDRESS_OF, Pointer
from tvm_vacc.codegen_c.numbers import number
from tvm_vacc.codegen_c.vectors import VectorFunctions
from tvm_vacc.errors import TargetError

# How strongly C's operators bind. Bits have no rank: their operands always get parentheses.
ATOM, UNARY, PRODUCT, SUM, COMPARISON, CHOICE, BIT = 8, 7, 6, 5, 4, 2, 1

_ARITHMETIC: dict[type, tuple[str, str, int]] = {
    prim.Add: ("+", "add", SUM),
    prim.Sub: ("-", "sub", SUM),
    prim.Mul: ("*", "mul", PRODUCT),
    prim.Div: ("/", "div", PRODUCT),
    prim.Mod: ("%", "mod", PRODUCT),
}
_COMPARISONS: dict[type, tuple[str, str]] = {
    prim.LT: ("<", "lt"),
    prim.LE: ("<=", "le"),
    prim.GT: (">", "gt"),
    prim.GE: (">=", "ge"),
    prim.EQ: ("==", "eq"),
    prim.NE: ("!=", "ne"),
}
_BITS: dict[type, tuple[str, str]] = {
    prim.BitwiseAnd: ("&", "and"),
    prim.BitwiseOr: ("|", "or"),
    prim.BitwiseXor: ("^", "xor"),
    prim.LShift: ("<<", "shl"),
    prim.RShift: (">>", "shr"),
}
_FLOAT = CType("float32")

Printed = tuple[str, int]
"""Text, and how strongly its outermost operator binds."""


class ExpressionPrinter:
    """Prints the expressions of one kernel.

    Attributes:
        kernel: its name, for messages.
        vectors: takes the vector functions that are needed.
        names: gives out local names.
        analyzer: knows the bounds of loop variables.
        variables: names in C of the variables in scope.
        pointers: the buffers and addresses in scope.
        lines: of the function's body so far; bindings within an expression are added to them.
        depth: of the block that is being printed.
        uses: local names used since `take_uses`.
    """

    def __init__(self, kernel: str, vectors: VectorFunctions, names: Names) -> None:
        self.kernel = kernel
        self.vectors = vectors
        self.names = names
        self.analyzer = Analyzer()
        self.variables: dict[Any, str] = {}
        self.pointers: dict[Any, Pointer] = {}
        self.types: dict[str, str] = {}
        self.lines: list[Line] = []
        self.depth = 1
        self.uses: set[str] = set()
        self._wrapping: set[str] = set()

    def text(self, expr: Any, strength: int = 0) -> str:
        """Return `expr` in C, in parentheses where it binds less than `strength`."""
        text, own = self._print(expr)
        return f"({text})" if own < strength else text

    def index(self, expr: Any) -> str:
        """Return a scalar integer expression, simplified."""
        return self.text(self.analyzer.simplify(expr))

    def emit(self, text: str, defines: str = "") -> None:
        """Add a line that uses the names printed since the last one."""
        self.lines.append(Line(text, self.depth, frozenset(self.uses), defines))
        self.uses = set()

    def bind(self, var: Any, value: Any, prefix: str) -> None:
        """Declare a C variable for `var`; `prefix` begins its name."""
        ctype = c_type_of(value)
        text = self.text(value)
        name = self.names.numbered(prefix)
        self._declare_type(ctype)
        if self._wraps(value):
            self._wrapping.add(name)
        self.variables[var] = name
        self.types[name] = ctype.name
        self.emit(f"const {ctype.name} {name} = {text};", defines=name)

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

    def _declare_type(self, ctype: CType) -> None:
        if ctype.lanes > 1:
            self.vectors.type(ctype)

    @contextmanager
    def _aside(self) -> Iterator[list[Line]]:
        """Collect the lines that an expression adds in a list of their own, one block deeper."""
        kept, self.lines = self.lines, []
        self.depth += 1
        try:
            yield self.lines
        finally:
            self.depth -= 1
            self.lines = kept

    @singledispatchmethod
    def _print(self, expr: Any) -> Printed:
        raise self.refuse(f"an expression of the kind {type(expr).__name__}")

    @_print.register(prim.IntImm)
    def _integer(self, expr: Any) -> Printed:
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

    @_print.register(prim.FloatImm)
    def _number(self, expr: Any) -> Printed:
        ctype, value = c_type_of(expr), float(expr.value)
        if ctype.is_half:
            return self._from_float(ctype, number(value, _FLOAT)), ATOM
        return number(value, ctype), UNARY if value < 0 else ATOM

    @_print.register(ir.Var)
    def _variable(self, expr: Any) -> Printed:
        if expr in self.pointers:
            return self.use(self.pointers[expr].name), ATOM
        return self.use(self.variables[expr]), ATOM

    @_print.register(ir.TensorLoad)
    def _load(self, expr: Any) -> Printed:
        pointer = self.pointers[expr.source]
        [index] = expr.indices
        lanes = c_type_of(index).lanes
        if lanes == 1:
            return self.element(pointer, index), ATOM
        if pointer.element.base == "bool":
            raise self.refuse("a vector of bools in memory")
        ctype = CType(pointer.element.base, lanes)
        index = self.analyzer.simplify(index)
        if isinstance(index, prim.Ramp) and is_one(index.stride):
            function = self.vectors.memory("load", ctype)
            return f"{function}({self.address(expr.source, index.base)})", ATOM
        if isinstance(index, prim.Broadcast):
            splat = self.vectors.memory("splat", ctype)
            return f"{splat}({self.element(pointer, index.value)})", ATOM
        if pointer.is_punned:
            raise self.refuse("a gather from memory of several types")
        function = self.vectors.gather(ctype, c_type_of(index))
        return f"{function}({self.use(pointer.name)}, {self.text(index)})", ATOM

    def _arithmetic(self, expr: Any) -> Printed:
        symbol, action, strength = _ARITHMETIC[type(expr)]
        ctype = c_type_of(expr)
        if ctype.lanes > 1:
            return self._vector_binary(action, ctype, expr), ATOM
        if ctype.is_half:
            halves = [f"{self._to_float(ctype, self.text(x))}" for x in (expr.a, expr.b)]
            return self._from_float(ctype, f"{halves[0]} {symbol} {halves[1]}"), ATOM
        if action == "mod" and ctype.is_float:
            raise self.refuse("the remainder of floats")
        if self._wraps(expr):
            a, b = self.text(expr.a), self.text(expr.b)
            return f"vacc_wrapping_{action}_{ctype.suffix}({a}, {b})", ATOM
        # Subtraction and division do not associate, and fp sums and products must not.
        right = strength + (ctype.is_float or action not in ("add", "mul"))
        text = f"{self.text(expr.a, strength)} {symbol} {self.text(expr.b, right)}"
        if ctype.scalar_bytes < 4:
            return f"({ctype.scalar})({text})", UNARY
        return text, strength

    def _comparison(self, expr: Any) -> Printed:
        symbol, action = _COMPARISONS[type(expr)]
        ctype = c_type_of(expr.a)
        if ctype.lanes > 1:
            self._refuse_halves(ctype)
            function = self.vectors.compare(action, ctype)
            return f"{function}({self.text(expr.a)}, {self.text(expr.b)})", ATOM
        if ctype.is_half:
            a, b = (self._to_float(ctype, self.text(x)) for x in (expr.a, expr.b))
            return f"{a} {symbol} {b}", COMPARISON
        a, b = self.text(expr.a, SUM), self.text(expr.b, SUM)
        return f"{a} {symbol} {b}", COMPARISON

    def _bitwise(self, expr: Any) -> Printed:
        symbol, action = _BITS[type(expr)]
        ctype = c_type_of(expr)
        if ctype.lanes > 1:
            return self._vector_binary(action, ctype, expr), ATOM
        a, b = self.text(expr.a, ATOM), self.text(expr.b, ATOM)
        if action == "shl" and ctype.is_signed:
            return f"vacc_wrapping_shl_{ctype.suffix}({a}, {b})", ATOM
        text = f"{a} {symbol} {b}"
        return (f"({ctype.scalar})({text})", UNARY) if ctype.scalar_bytes < 4 else (text, BIT)

    def _vector_binary(self, action: str, ctype: CType, expr: Any) -> str:
        self._refuse_halves(ctype)
        if action == "mod":
            raise self.refuse("the remainder of vectors")
        function = self.vectors.binary(action, ctype)
        return f"{function}({self.text(expr.a)}, {self.text(expr.b)})"

    def _extreme(self, expr: Any) -> Printed:
        action = "min" if isinstance(expr, prim.Min) else "max"
        ctype = c_type_of(expr)
        self._refuse_halves(ctype)
        if ctype.lanes > 1:
            function = self.vectors.extreme(action, ctype)
        else:
            function = f"vacc_{action}_{ctype.suffix}"
        return f"{function}({self.text(expr.a)}, {self.text(expr.b)})", ATOM

    def _floor_division(self, expr: Any) -> Printed:
        symbol, action = ("/", "div") if isinstance(expr, prim.FloorDiv) else ("%", "mod")
        ctype = c_type_of(expr)
        if ctype.lanes > 1 or ctype.is_float:
            raise self.refuse("a floor division of vectors or floats")
        never_negative = self.analyzer.const_int_bound(expr.a).min_value >= 0
        if not ctype.is_signed or (
            never_negative and self.analyzer.const_int_bound(expr.b).min_value > 0
        ):
            a, b = self.text(expr.a, PRODUCT), self.text(expr.b, UNARY)
            return f"{a} {symbol} {b}", PRODUCT
        return f"vacc_floor{action}_{ctype.suffix}({self.text(expr.a)}, {self.text(expr.b)})", ATOM

    def _logical(self, expr: Any) -> Printed:
        is_and = isinstance(expr, prim.And)
        if c_type_of(expr).lanes > 1:
            return self._vector_binary("and" if is_and else "or", c_type_of(expr), expr), ATOM
        left = self._operand_of(expr.a, type(expr))
        with self._aside() as hoisted:
            right = self._operand_of(expr.b, type(expr))
        if hoisted:  # the right side must not be computed where the left decides
            raise self.refuse("a binding in a condition")
        return f"{left} {'&&' if is_and else '||'} {right}", CHOICE

    def _operand_of(self, expr: Any, kind: type) -> str:
        """Operands of ``&&`` and ``||``: the same operator goes on without parentheses."""
        return self.text(expr, 0 if isinstance(expr, kind) else COMPARISON)

    @_print.register(prim.Not)
    def _not(self, expr: Any) -> Printed:
        ctype = c_type_of(expr)
        if ctype.lanes > 1:
            flip = f"{self.vectors.memory('splat', ctype)}(-1)"
            return f"{self.vectors.binary('xor', ctype)}({self.text(expr.a)}, {flip})", ATOM
        return f"!{self.text(expr.a, UNARY)}", UNARY

    @_print.register(prim.BitwiseNot)
    def _complement(self, expr: Any) -> Printed:
        ctype = c_type_of(expr)
        if ctype.lanes > 1:
            flip = f"{self.vectors.memory('splat', ctype)}(({ctype.scalar})-1)"
            return f"{self.vectors.binary('xor', ctype)}({self.text(expr.a)}, {flip})", ATOM
        return f"({ctype.scalar})~{self.text(expr.a, UNARY)}", UNARY

    @_print.register(prim.Select)
    def _select(self, expr: Any) -> Printed:
        ctype = c_type_of(expr)
        if c_type_of(expr.condition).lanes == 1:
            return self._choice(expr.condition, expr.true_value, expr.false_value, ctype)
        function = self.vectors.select(ctype)
        parts = (expr.condition, expr.true_value, expr.false_value)
        return f"{function}({', '.join(map(self.text, parts))})", ATOM

    def _choice(self, condition: Any, left: Any, right: Any, ctype: CType) -> Printed:
        """Only the chosen side is computed, its bindings too."""
        test = self.text(condition, COMPARISON)
        before, self.uses = self.uses, set()
        sides = []
        for side in (left, right):
            with self._aside() as hoisted:
                text = self.text(side, COMPARISON)
                sides.append((text, hoisted, frozenset(self.uses)))
                self.uses = set()
        if not any(hoisted for _, hoisted, _ in sides):
            self.uses = before.union(*(uses for _, _, uses in sides))
            return f"{test} ? {sides[0][0]} : {sides[1][0]}", CHOICE
        name = self.names.numbered("chosen")
        self._declare_type(ctype)
        self.lines.append(Line(f"{ctype.name} {name};", self.depth))
        for head, (text, hoisted, uses) in zip((f"if ({test}) {{", "} else {"), sides, strict=True):
            self.lines.append(Line(head, self.depth, frozenset(before)))
            self.lines.extend(hoisted)
            self.lines.append(Line(f"{name} = {text};", self.depth + 1, uses))
        self.lines.append(Line("}", self.depth))
        self.uses = {*before, name}
        return name, ATOM

    @_print.register(prim.Cast)
    def _cast(self, expr: Any) -> Printed:
        to = c_type_of(expr)
        is_mask = c_type(expr.value.ty.dtype).base == "bool"
        source = c_type_of(expr.value)
        if to.lanes > 1:
            text = self.text(expr.value)
            if is_mask:
                one = f"{self.vectors.memory('splat', source)}(1)"
                text = f"{self.vectors.binary('and', source)}({text}, {one})"
            if to == source:
                return text, ATOM
            halves = to.is_half or source.is_half
            if halves and "float32" not in (to.base, source.base):
                middle = to.of("float32")
                text = f"{self.vectors.convert(middle, source)}({text})"
                source = middle
            return f"{self.vectors.convert(to, source)}({text})", ATOM
        if source.is_half:
            value = self._to_float(source, self.text(expr.value))
            if to.base == "float32":
                return value, ATOM
            if to.is_half:
                return self._from_float(to, value), ATOM
            return f"({to.scalar}){value}", UNARY
        if to.is_half:
            return self._from_float(to, f"(float){self.text(expr.value, UNARY)}"), ATOM
        return f"({to.scalar}){self.text(expr.value, UNARY)}", UNARY

    @_print.register(prim.Broadcast)
    def _broadcast(self, expr: Any) -> Printed:
        ctype = c_type_of(expr)
        inner = c_type_of(expr.value)
        if inner.lanes > 1:
            raise self.refuse("a vector repeated in a longer one")
        text = self.text(expr.value)
        if inner.base == "bool":
            text = f"{self.text(expr.value, COMPARISON)} ? -1 : 0"
        return f"{self.vectors.memory('splat', ctype)}({text})", ATOM

    @_print.register(prim.Ramp)
    def _ramp(self, expr: Any) -> Printed:
        function = self.vectors.ramp(c_type_of(expr))
        return f"{function}({self.index(expr.base)}, {self.index(expr.stride)})", ATOM

    @_print.register(prim.Shuffle)
    def _shuffle(self, expr: Any) -> Printed:
        ctype, source = c_type_of(expr), c_type_of(expr.vectors[0])
        lanes = [int(index) for index in expr.indices]
        if source.lanes == 1:  # a vector made of scalars
            values = ", ".join(self.text(expr.vectors[lane]) for lane in lanes)
            load = self.vectors.memory("load", ctype)
            return f"{load}((const {ctype.scalar}[]){{{values}}})", ATOM
        if ctype.lanes == 1:
            vector = self.text(expr.vectors[lanes[0] // source.lanes])
            return f"VACC_LANE({vector}, {lanes[0] % source.lanes})", ATOM
        function = self.vectors.shuffle(ctype, source)
        vectors = f"(const {source.name}[]){{{', '.join(map(self.text, expr.vectors))}}}"
        table = f"(const uint8_t[]){{{', '.join(map(str, lanes))}}}"
        return f"{function}({vectors}, {table})", ATOM

    @_print.register(prim.Let)
    def _let(self, expr: Any) -> Printed:
        outer, self.uses = self.uses, set()
        self.bind(expr.var, expr.value, "let")
        self.uses = outer
        return self._print(expr.body)

    @_print.register(ir.Call)
    def _call(self, expr: Any) -> Printed:
        name = expr.op.name
        if name == ADDRESS_OF:
            load = expr.args[0]
            return self.address(load.source, load.indices[0]), UNARY
        ctype = c_type_of(expr)
        if name == "prim.if_then_else":
            condition, left, right = expr.args
            return self._choice(condition, left, right, ctype)
        if name == "tirx.reinterpret":
            source = c_type_of(expr.args[0])
            text, strength = self._print(expr.args[0])
            if source.lanes == ctype.lanes == 1 and source.scalar_bytes == 2:
                return text, strength  # one type of C, whatever it means
            return f"{self.vectors.reinterpret(ctype, source)}({text})", ATOM
        if name == "tirx.likely":
            return self._print(expr.args[0])
        return self._mathematics(expr, name, ctype), ATOM

    def _mathematics(self, expr: Any, name: str, ctype: CType) -> str:
        argument = c_type_of(expr.args[0]) if expr.args else ctype
        arguments = ", ".join(map(self.text, expr.args))
        if name == "tirx.sigmoid":
            function = "vacc_sigmoid_f32"
        elif name == "tirx.rsqrt":
            function = "vacc_rsqrt_f32"
        elif name in CLASSIFY and ctype.lanes == 1 and not argument.is_half:
            return f"{CLASSIFY[name]}({arguments})"
        elif name in MATH:
            function = MATH[name] + ("f" if argument.base == "float32" else "")
        else:
            raise self.refuse(f"a call of {name}")
        if argument.base not in ("float32", "float64"):
            raise self.refuse(f"{name} of {argument.base}")
        if ctype.lanes == 1:
            return f"{function}({arguments})"
        if len(expr.args) != 1:
            raise self.refuse(f"{name} of vectors")
        return f"{self.vectors.map(function, ctype)}({arguments})"

    def prefetch(self, call: Any) -> str | None:
        """Return the statement for a prefetch; None where `call` is something else."""
        if call.op.name != "tirx.call_llvm_intrin" or not _is_intrinsic(call.args[0], PREFETCH):
            return None
        address, _write, locality, _data = call.args[1:]
        return f"VACC_PREFETCH({self.text(address)}, {self.text(locality)});"

    def _wraps(self, expr: Any) -> bool:
        """Tell whether signed arithmetic on `expr` is arithmetic on a float's bits."""
        if str(expr.ty.dtype) != "int32":
            return False
        if isinstance(expr, prim.LShift):
            return True
        if isinstance(expr, ir.Call):
            return expr.op.name == "tirx.reinterpret"
        if isinstance(expr, ir.Var):
            return self.variables.get(expr) in self._wrapping
        if isinstance(expr, prim.RShift):
            return self._wraps(expr.a)
        if isinstance(expr, (prim.Add, prim.Sub, prim.Mul)):
            return self._wraps(expr.a) or self._wraps(expr.b)
        return False

    def _refuse_halves(self, ctype: CType) -> None:
        if ctype.is_half:
            raise self.refuse(f"arithmetic in {ctype.base}")

    @staticmethod
    def _to_float(ctype: CType, text: str) -> str:
        return f"vacc_f32_from_{ctype.suffix}({text})"

    @staticmethod
    def _from_float(ctype: CType, text: str) -> str:
        return f"vacc_{ctype.suffix}_from_f32({text})"

    for _kind in _ARITHMETIC:
        _print.register(_kind)(_arithmetic)
    for _kind in _COMPARISONS:
        _print.register(_kind)(_comparison)
    for _kind in _BITS:
        _print.register(_kind)(_bitwise)
    for _kind in (prim.Min, prim.Max):
        _print.register(_kind)(_extreme)
    for _kind in (prim.FloorDiv, prim.FloorMod):
        _print.register(_kind)(_floor_division)
    for _kind in (prim.And, prim.Or):
        _print.register(_kind)(_logical)


def is_one(expr: Any) -> bool:
    """Tell whether an expression is the constant 1."""
    return isinstance(expr, prim.IntImm) and int(expr.value) == 1


def _is_intrinsic(which: Any, name: str) -> bool:
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    if isinstance(which, ir.StringImm):
        return bool(which.value == name)
    return int(which) == llvm_lookup_intrinsic_id(name)
