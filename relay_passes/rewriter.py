"""One forward walk over a function's bindings: what all graph passes are made of.

A rule sees each binding with operands that are rewritten already, looks through variables to what
they are bound to, and returns a replacement or None. One walk suffices where a pattern engine has
to iterate, and operand order, axes, bounds and constants are checked where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import ir, relax, tirx
from tvm.sym import Analyzer
from tvm_ffi import structural_equal

from relay_passes.base import NUM_INPUT, PassResult

_ANALYZER = Analyzer()


@dataclass(frozen=True)
class View:
    """A function to read: what its variables stand for.

    Attributes:
        lookup: what a variable is bound to; None for a parameter.
        params: parameters of the function, in order.
        num_input: how many of them are the model's inputs; the rest are weights.
    """

    lookup: Callable[[relax.Var], relax.Expr | None]
    params: tuple[relax.Var, ...]
    num_input: int

    @staticmethod
    def of(function: relax.Function) -> View:
        """Read `function`."""
        params = tuple(function.params)
        values = relax.analysis.get_var2val(function)
        return View(values.get, params, _num_input(function.attrs, len(params)))

    def value(self, expr: relax.Expr) -> relax.Expr:
        """Follow variables to the expression they are bound to; a parameter is itself."""
        while isinstance(expr, relax.Var):
            bound = self.lookup(expr)
            if bound is None:
                return expr
            expr = bound
        return expr

    def call(self, expr: relax.Expr | None, *names: str) -> relax.Call | None:
        """Return what `expr` is bound to where it calls ``relax.<name>`` of one of `names`."""
        if expr is None:
            return None
        value = self.value(expr)
        return value if is_call(value, *names) else None

    def exact(self, expr: relax.Expr) -> relax.Expr:
        """Return `value`, seen through what only rounds it: quantize and dequantize."""
        value = self.value(expr)
        while is_call(value, "tvm_vacc.quantize", "tvm_vacc.dequantize"):
            value = self.value(value.args[0])
        return value

    def is_weight(self, expr: relax.Expr) -> bool:
        """Whether `expr` is a parameter that is no input, or a constant."""
        value = self.value(expr)
        return isinstance(value, tvm.ir.GenericConst) or any(
            value.same_as(param) for param in self.params[self.num_input :]
        )

    @property
    def inputs(self) -> tuple[relax.Var, ...]:
        """Parameters that are no weights."""
        return self.params[: self.num_input]


@dataclass(frozen=True)
class Graph(View):
    """The function under construction: read as far as it is emitted.

    Attributes:
        builder: holds the bindings emitted so far.
        renamed: what the old function's variables have become.
        spans: of the binding that is rewritten: what is emitted for it has the same origin.
    """

    builder: relax.BlockBuilder
    renamed: dict[relax.Var, relax.Expr]
    spans: list[ir.Span | None]

    def emit(self, expr: relax.Expr) -> relax.Var:
        """Bind `expr`, nested calls included, and return its variable."""
        return emit(self.builder, expr, self.spans[-1])


def _num_input(attrs: Mapping[str, Any] | None, default: int) -> int:
    return int(attrs[NUM_INPUT]) if attrs and NUM_INPUT in attrs else default


Rule = Callable[[Graph, relax.Expr], relax.Expr | None]


def rewrite(module: ir.IRModule, rule: Rule) -> PassResult:
    """Apply `rule` to every binding of `main`; matches are the replacements that it returned.

    Dead code is removed. A function with control flow is returned as it is: every graph that our
    operators stand for is straight.
    """
    main = module["main"]
    if not is_straight(main):
        return PassResult(module, 0)
    matches = 0

    def counted(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        nonlocal matches
        replacement = rule(graph, expr)
        matches += replacement is not None
        return replacement

    return PassResult(replace_main(module, rebuild(main, counted)), matches)


def is_straight(function: relax.Function) -> bool:
    """Whether `function` is one dataflow block, without branches or side effects."""
    blocks = function.body.blocks
    return len(blocks) == 1 and isinstance(blocks[0], relax.DataflowBlock)


def rebuild(
    function: relax.Function,
    rule: Rule,
    params: Sequence[relax.Var] | None = None,
    attrs: Mapping[str, Any] | None = None,
    outputs: Callable[[list[relax.Expr]], list[relax.Expr]] = lambda exprs: exprs,
) -> relax.Function:
    """Emit `function` anew through `rule`.

    Args:
        function: one dataflow block.
        rule: called for each binding's value; None leaves it.
        params: of the new function; those of `function` if None.
        attrs: to set on the new function, over those it has.
        outputs: maps the function's results (the elements, where it returns a tuple) to new ones.
    """
    params = list(function.params) if params is None else list(params)
    all_attrs = {**dict(function.attrs), **(attrs or {})} if function.attrs else dict(attrs or {})
    builder = relax.BlockBuilder()
    renamed: dict[relax.Var, relax.Expr] = {}
    num_input = _num_input(all_attrs, len(params))
    spans: list[ir.Span | None] = [None]
    graph = Graph(builder.lookup_binding, tuple(params), num_input, builder, renamed, spans)
    with builder.function("main", params):
        with builder.dataflow():
            bindings = list(function.body.blocks[0].bindings)
            for binding in bindings:
                builder.get_unique_name(binding.var.name)  # no new variable takes it
            for binding in bindings:
                old = binding.value
                value = substitute(old, renamed) if renamed else old
                if isinstance(binding, relax.MatchCast):
                    renamed[binding.var] = builder.match_cast(value, binding.ty)
                    continue
                value = value if value is old else builder.normalize(value)
                spans[-1] = value.span if isinstance(value, relax.Call) else None
                replacement = rule(graph, value)
                value = value if replacement is None else replacement
                if is_leaf(value):
                    renamed[binding.var] = value
                    continue
                if value is old and is_inner(binding.var):
                    builder.emit_normalized(binding)
                    continue
                value = normalized(builder, value, spans[-1])
                if is_inner(binding.var) and structural_equal(value.ty, binding.var.ty):
                    # It keeps its variable, and so what reads it stays as it stands.
                    builder.emit_normalized(relax.VarBinding(binding.var, value))
                else:
                    renamed[binding.var] = builder.emit(value)
            body = graph.value(substitute(function.body.body, renamed))
            if isinstance(body, relax.Tuple):
                fields = outputs(list(body.fields))
                body = fields[0] if len(fields) == 1 else relax.Tuple(fields)
            else:
                body = substitute(function.body.body, renamed)
            result = builder.emit_output(body)
        builder.emit_func_output(result)
    return builder.get()["main"].with_attrs(all_attrs)


def replace_main(module: ir.IRModule, main: relax.Function) -> ir.IRModule:
    """Return a copy of `module` with another `main`, dead code removed."""
    functions = dict(module.functions_items())
    functions[module.get_global_var("main")] = main
    replaced = ir.IRModule(functions, attrs=module.attrs)
    return relax.transform.DeadCodeElimination(["main"])(replaced)


def is_inner(var: relax.Var) -> bool:
    """Whether `var` is seen in its dataflow block only."""
    return isinstance(var, relax.DataflowVar)


def substitute(expr: relax.Expr, renamed: Mapping[relax.Var, relax.Expr]) -> relax.Expr:
    """Replace variables in a binding's value, which in normal form is one level deep.

    `expr` itself is returned where it has none of `renamed`.
    """
    if isinstance(expr, relax.Var):
        return renamed.get(expr, expr)
    if isinstance(expr, relax.Tuple):
        fields, is_same = _substituted(expr.fields, renamed)
        return expr if is_same else relax.Tuple(fields)
    if isinstance(expr, relax.TupleGetItem):
        (source,), is_same = _substituted([expr.tuple_value], renamed)
        return expr if is_same else relax.TupleGetItem(source, expr.index)
    if isinstance(expr, relax.Call):
        args, is_same = _substituted(expr.args, renamed)
        return expr if is_same else relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span)
    return expr


def _substituted(
    exprs: Iterable[relax.Expr], renamed: Mapping[relax.Var, relax.Expr]
) -> tuple[list[relax.Expr], bool]:
    """Return `exprs` with variables replaced, and whether none was."""
    old = list(exprs)
    new = [substitute(expr, renamed) for expr in old]
    return new, all(a is b for a, b in zip(old, new, strict=True))


def with_span(expr: relax.Expr, span: ir.Span | None) -> relax.Expr:
    """Return `expr`, where it is a call without an origin, with the origin `span`.

    Spans name the nodes of the model that calls come from (`tvm_vacc.frontend.origins`): whoever
    puts a call in the place of another hands them on. Mostly there are none.
    """
    if span is None or not isinstance(expr, relax.Call) or expr.span is not None:
        return expr
    args = [with_span(arg, span) for arg in expr.args]
    return relax.Call(expr.op, args, expr.attrs, expr.ty_args, span)


def normalized(builder: relax.BlockBuilder, expr: relax.Expr, span: ir.Span | None) -> relax.Expr:
    """Bind the calls nested in `expr`, as of the origin `span`; return it over variables."""
    if span is None:
        return builder.normalize(expr)
    # Normalising takes nested calls apart, and the outer one's origin away.
    return with_span(builder.normalize(with_span(expr, span)), span)


def emit(builder: relax.BlockBuilder, expr: relax.Expr, span: ir.Span | None) -> relax.Var:
    """Bind `expr`, nested calls included, as what has the origin `span`; return its variable."""
    return builder.emit(normalized(builder, expr, span))


def is_leaf(expr: relax.Expr) -> bool:
    """Whether `expr` needs no binding."""
    return isinstance(expr, relax.Var | tvm.ir.GenericConst)


def is_call(expr: relax.Expr, *names: str) -> bool:
    """Whether `expr` calls ``relax.<name>`` of one of `names`."""
    return (
        isinstance(expr, relax.Call)
        and isinstance(expr.op, ir.Op)
        and expr.op.name.removeprefix("relax.") in names
    )


def operand(call: relax.Call | None, index: int = 0) -> relax.Expr | None:
    """Return an argument of `call`; None passes through, so that a chain of calls reads as one."""
    return None if call is None else call.args[index]


def simplify(dim: Any) -> Any:
    """Return a dimension in its shortest form."""
    return _ANALYZER.simplify(dim)


def same_dim(a: Any, b: Any) -> bool:
    """Whether two dimensions are equal, whatever the symbols stand for."""
    return bool(_ANALYZER.can_prove_equal(a, b))


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal, whatever the symbols stand for."""
    return len(a) == len(b) and all(same_dim(x, y) for x, y in zip(a, b, strict=True))


def shape_of(expr: relax.Expr) -> list[Any]:
    """Return the dimensions of a tensor; empty where its shape is not known."""
    ty = expr.ty
    known = isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr)
    return list(ty.shape.values) if known else []


def static(dim: Any) -> int | None:
    """Return a dimension as an int, None where it is symbolic."""
    return int(dim) if isinstance(dim, int | tirx.IntImm) else None


def scalar(expr: relax.Expr) -> float | None:
    """Return the value of a constant of one element, None where `expr` is no such thing."""
    if not isinstance(expr, tvm.ir.GenericConst):
        return None
    array = expr.value.numpy()
    return float(array.item()) if array.size == 1 else None
