"""Prints a Relax function, its memory planned, as a C function that calls the kernels in order."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from tvm import ir, relax
from tvm.ir.prim import expr as prim
from tvm.sym.analyzer import ConstIntBound

from tvm_vacc.codegen_c.c_types import CType, c_type
from tvm_vacc.codegen_c.constants import print_constant
from tvm_vacc.codegen_c.expressions import expression_printer
from tvm_vacc.codegen_c.graph_values import PLAIN_ALIASES, Value, dims_of, is_alias
from tvm_vacc.codegen_c.kernel import Kernel
from tvm_vacc.codegen_c.lines import Line, Names, render, without_unused
from tvm_vacc.codegen_c.signature import Signature, Tensor
from tvm_vacc.codegen_c.vectors import VectorFunctions
from tvm_vacc.codegen_c.workspace import Workspace

UPPER_BOUNDS = "tir_var_upper_bound"


@dataclass(frozen=True)
class Graph:
    """A Relax function as C.

    Attributes:
        signature: its arguments.
        text: its definition, constants before it.
        kernels: names of the kernels that it calls, in the order of the first calls.
    """

    signature: Signature
    text: str
    kernels: tuple[str, ...]


class GraphPrinter:
    """Prints one Relax function."""

    def __init__(self, name: str, function: Any, kernels: dict[str, Kernel]) -> None:
        """Take the function.

        Args:
            name: of the C function.
            function: after `StaticPlanBlockMemory`.
            kernels: what it may call, by the names in the module.
        """
        self.name = name
        self.function = function
        self.kernels = kernels
        self.called: dict[str, None] = {}
        self.names = Names([name, "arguments", "workspace", "next"])
        self.e = expression_printer(name, VectorFunctions(), self.names)
        self.e.longest = sys.maxsize  # sizes are printed where no line can stand before them
        self.values: dict[Any, Value] = {}
        self.lines: list[Line] = []
        self.signature = Signature(name)
        self.workspace = Workspace(name)
        self.constants: list[str] = []
        self.outputs: dict[Any, Value] = {}
        self.hints: dict[Any, str] = {}

    def print(self) -> Graph:
        """Return the function in C.

        Raises:
            TargetError: it holds something that has no form in C.
        """
        self._dimensions()
        for parameter in self.function.params:
            self._parameter(parameter)
        bindings = [item for block in self.function.body.blocks for item in block.bindings]
        self._find_outputs(bindings)
        self._find_hints(bindings)
        for binding in bindings:
            if not isinstance(binding, relax.VarBinding):
                raise self.e.refuse(f"a binding of the kind {type(binding).__name__}")
            self._binding(binding.var, binding.value)
        self._return()
        return Graph(self.signature, self._definition(), tuple(self.called))

    # ---- arguments ----

    def _dimensions(self) -> None:
        """Make a member of each symbolic dimension, and check the bounds of its value."""
        bounds = dict((self.function.attrs or {}).get(UPPER_BOUNDS, {}))
        for dim in dims_of(self.function):
            name = self.names.exactly(dim.name)
            self.e.variables[dim] = name
            self.e.analyzer.update(dim, ConstIntBound(0, ConstIntBound.POS_INF), True)
            most = int(bounds[dim.name]) if dim.name in bounds else None
            self.signature.add_dim(name, most)
            self._line(f"const int64_t {name} = arguments->{name};", defines=name)
            above = f" || {name} > {most}" if most is not None else ""
            self._line(f"if ({name} < 0{above}) {{", {name})
            self._line("    return VACC_BAD_SIZE;")
            self._line("}")

    def _parameter(self, parameter: Any) -> None:
        name = self.names.exactly(parameter.name)
        ty = parameter.ty
        if isinstance(ty, relax.TupleType):
            count = len(ty.fields)
            self.signature.add_bundle(name, count)
            self.values[parameter] = Value(
                fields=tuple(Value(f"arguments->{name}[{index}]") for index in range(count))
            )
            return
        self.signature.add_input(self._tensor(name, ty))
        self.values[parameter] = Value(f"arguments->{name}")

    def _tensor(self, name: str, ty: Any) -> Tensor:
        if not isinstance(ty, relax.TensorType) or ty.shape is None:
            raise self.e.refuse(f"a value of the type {ty}")
        ctype = c_type(ty.dtype.dtype if hasattr(ty.dtype, "dtype") else ty.dtype)
        return Tensor(name, ctype, tuple(self.e.index(dim) for dim in ty.shape))

    # ---- the body ----

    def _find_outputs(self, bindings: list[Any]) -> None:
        """Let tensors that are returned be written where the caller wants them."""
        definitions = {item.var: item.value for item in bindings}
        result = self.function.body.body
        returned = definitions.get(result, result)
        self.results = list(returned.fields) if isinstance(returned, relax.Tuple) else [result]
        for position, item in enumerate(self.results):
            name = self.names.exactly("output" if len(self.results) == 1 else f"output{position}")
            self.signature.add_output(self._tensor(name, item.ty))
            source = item
            while isinstance(definitions.get(source), relax.Var) or is_alias(
                definitions.get(source)
            ):
                value = definitions[source]
                source = value if isinstance(value, relax.Var) else value.args[0]
            self.outputs.setdefault(source, Value(f"arguments->{name}"))

    def _find_hints(self, bindings: list[Any]) -> None:
        """Name tensors after the kernels that write them."""
        for binding in bindings:
            value = binding.value
            if isinstance(value, relax.Call) and isinstance(value.op, ir.GlobalVar):
                for argument in value.args:
                    if isinstance(argument, relax.Var):
                        self.hints[argument] = value.op.name_hint

    def _binding(self, var: Any, value: Any) -> None:
        if isinstance(value, relax.Call):
            self._call(var, value)
        elif isinstance(value, relax.TupleGetItem):
            self._field(var, self._value(value.tuple_value).fields[value.index])
        else:
            self.values[var] = self._value(value)

    def _field(self, var: Any, value: Value) -> None:
        """Give an element of the tuple of parameters its own name."""
        if not value.text.startswith("arguments->"):
            self.values[var] = value
            return
        name = self.names.exactly(var.name)
        tensor = self._tensor(name, var.ty)
        self._line(
            f"{tensor.ctype.scalar} *const {name} = {value.text}; /* [{tensor.shape}] */",
            value.uses,
            name,
        )
        self.values[var] = Value(name, uses=frozenset([name]))

    def _call(self, var: Any, call: Any) -> None:
        if isinstance(call.op, ir.GlobalVar):
            self._kernel(call.op.name_hint, list(call.args))
            return
        if not isinstance(call.op, ir.Op):
            raise self.e.refuse(f"a call of {call.op}")
        name = call.op.name
        if name in PLAIN_ALIASES:
            self.values[var] = self._value(call.args[0])
        elif name == "relax.memory.alloc_storage":
            [size] = call.args[0].values
            self.values[var] = self._storage(self.e.index(size))
        elif name == "relax.memory.alloc_tensor":
            storage, offset = call.args[:2]
            self._tensor_in(var, self._value(storage), int(offset.value))
        elif name == "relax.builtin.alloc_tensor":
            self._unplanned(var, call.args[0].values, c_type(call.args[1].value))
        else:
            raise self.e.refuse(f"a call of {name}")

    def _storage(self, size: str) -> Value:
        name = self.workspace.add(self.names.numbered("storage"), size)
        return Value(name, uses=frozenset([name]))

    def _unplanned(self, var: Any, dims: Any, ctype: CType) -> None:
        if var in self.outputs:
            self.values[var] = self.outputs[var]
            return
        size: Any = prim.IntImm("int64", ctype.scalar_bytes)
        for dim in dims:
            size = size * dim
        self._tensor_in(var, self._storage(self.e.index(size)), 0)

    def _tensor_in(self, var: Any, storage: Value, offset: int) -> None:
        name = self.names.numbered(self.hints.get(var, "tensor") + "_")
        tensor = self._tensor(name, var.ty)
        scalar = tensor.ctype.scalar
        place = f"({storage.text} + {offset})" if offset else storage.text
        self._line(
            f"{scalar} *const {name} = ({scalar} *)(void *){place}; /* [{tensor.shape}] */",
            storage.uses,
            name,
        )
        self.values[var] = Value(name, uses=frozenset([name]))

    def _kernel(self, hint: str, arguments: list[Any]) -> None:
        kernel = self.kernels[hint]
        self.called[hint] = None
        values = [self._value(item) for item in arguments]
        texts = [item.text for item in values]
        for position, axis in kernel.dims:
            texts.append(self.e.index(list(arguments[position].ty.shape)[axis]))
        uses = frozenset[str]().union(*(item.uses for item in values), self.e.uses)
        self.e.uses = set()
        self._line(f"VACC_TRY({kernel.name}({', '.join(texts)}));", uses)

    def _value(self, expr: Any) -> Value:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return Value(fields=tuple(map(self._value, expr.fields)))
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value).fields[expr.index]
        if isinstance(expr, ir.GenericConst):
            return self._constant(expr.value.numpy())
        raise self.e.refuse(f"an expression of the kind {type(expr).__name__}")

    def _constant(self, array: Any) -> Value:
        name = self.names.numbered(f"{self.name}_constant")
        self.constants.append(print_constant(name, array))
        return Value(name)

    def _return(self) -> None:
        """Copy what is returned and was not computed in place: an input, or a tensor twice."""
        for output, item in zip(self.signature.outputs, self.results, strict=True):
            target, value = f"arguments->{output.name}", self._value(item)
            if value.text != target:
                size: Any = prim.IntImm("int64", output.ctype.scalar_bytes)
                for dim in item.ty.shape:
                    size = size * dim
                self._line(
                    f"memcpy({target}, {value.text}, (size_t)({self.e.index(size)}));", value.uses
                )

    def _line(self, text: str, uses: Any = (), defines: str = "") -> None:
        everything = frozenset(uses) | frozenset(self.e.uses)
        self.e.uses = set()
        self.lines.append(Line(text, 1, everything, defines))

    # ---- the text ----

    def _definition(self) -> str:
        lines = without_unused(self.workspace.put_before_use(self.lines))
        return (
            "\n".join([*self.constants, ""])
            + self.workspace.measure(self.e.variables.values())
            + f"int {self.name}(const struct {self.name}_arguments *arguments, "
            + "void *workspace) {\n"
            + render(lines)
            + "    return VACC_OK;\n}\n"
        )
