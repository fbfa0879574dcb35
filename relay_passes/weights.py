"""How weights appear in a graph: as they are, cast, transposed, or joined of several."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import NUM_INPUT
from relay_passes.layout import axes_of
from relay_passes.rewriter import View, is_call
from relay_passes.weight_plan import PackedWeight, Source, with_plan

_FLOATS = ("float32", "float16", "bfloat16")


def bare_weight(graph: View, expr: relax.Expr) -> relax.Expr:
    """Return the tensor under casts between float types: our operators read any of them."""
    cast = graph.call(expr, "astype")
    while cast is not None and cast.args[0].ty.dtype in _FLOATS:
        expr = cast.args[0]
        cast = graph.call(expr, "astype")
    return expr


def matrix_out_in(graph: View, expr: relax.Expr) -> relax.Expr | None:
    """Return the ``[out, in]`` weight whose transpose `expr` ``[in, out]`` is.

    Casts and transposes may stand in either order. A weight that is stored as ``[in, out]`` gets
    a transpose, for the packer to read through. None where `expr` is no weight.
    """
    expr = bare_weight(graph, expr)
    transpose = graph.call(expr, "permute_dims")
    if transpose is not None and axes_of(transpose) == [1, 0]:
        weight = bare_weight(graph, transpose.args[0])
        return weight if graph.is_weight(weight) else None
    if not graph.is_weight(expr):
        return None
    return relax.op.permute_dims(expr, [1, 0])


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a function and what its variables stand for.

    Attributes:
        params: the parameters that are weights.
        lookup: what a variable is bound to; None for a parameter.
    """

    params: Collection[relax.Var]
    lookup: Callable[[relax.Var], relax.Expr | None]

    @staticmethod
    def of(function: relax.Function) -> StoredWeights:
        """Read `function`, whose attribute ``num_input`` says where its weights begin."""
        first = int(function.attrs[NUM_INPUT])
        params = set(function.params[first:])
        return StoredWeights(params, relax.analysis.get_var2val(function).get)

    def sources(self, expr: relax.Expr) -> tuple[Source, ...] | None:
        """Return the parameters that `expr` is made of by transposes and joining along ``out``.

        Casts between float types do not count: whoever makes the weight makes it in any of them.

        Args:
            expr: ``[out, in]``, or a vector ``[out]``.

        Returns:
            The parameters in the order in which they stand along ``out``; None where anything
            else is computed on the way.
        """
        return self._sources(expr, transposed=False)

    def is_constant(self, expr: relax.Expr) -> bool:
        """Whether `expr` is a constant, or a transposed or cast one."""
        while not isinstance(expr, ir.GenericConst):
            if isinstance(expr, relax.Var):
                expr = self.lookup(expr)
            elif is_call(expr, "permute_dims", "astype"):
                expr = expr.args[0]
            else:
                return False
        return True

    def _sources(self, expr: relax.Expr, transposed: bool) -> tuple[Source, ...] | None:
        while isinstance(expr, relax.Var):
            if expr in self.params:
                return (Source(expr.name, transposed),)
            expr = self.lookup(expr)
        if is_call(expr, "astype") and all(e.ty.dtype in _FLOATS for e in (expr, expr.args[0])):
            return self._sources(expr.args[0], transposed)
        if is_call(expr, "permute_dims") and axes_of(expr) == [1, 0]:
            return self._sources(expr.args[0], not transposed)
        if is_call(expr, "concat") and int(expr.attrs.axis or 0) == int(transposed):
            return self._joined(expr.args[0], transposed)
        return None

    def _joined(self, parts: relax.Expr, transposed: bool) -> tuple[Source, ...] | None:
        while isinstance(parts, relax.Var):
            parts = self.lookup(parts)
        if not isinstance(parts, relax.Tuple):
            return None
        found: list[Source] = []
        for part in parts.fields:
            sources = self._sources(part, transposed)
            if sources is None:
                return None
            found += sources
        return tuple(found)


def head_of(function: relax.Function) -> relax.Call | None:
    """Return the `linear`, quantised or not, whose result `function` returns first, or None.

    A quantised model may round the result.
    """
    view = View.of(function)
    result = view.value(function.body.body)
    first = result.fields[0] if isinstance(result, relax.Tuple) else result
    return view.call(view.exact(first), "tvm_vacc.linear", "tvm_vacc.quantized_linear")


def replace_weights(
    module: ir.IRModule,
    body: relax.Expr,
    made: Iterable[relax.Var],
    plan: Iterable[PackedWeight],
) -> ir.IRModule:
    """Return `module` with `body` in ``main``, whose weights are `made`, and `plan` noted.

    What nobody reads any more goes: the transposes that packing has taken over, and the old
    parameters are not kept unless they stand in `made`.
    """
    main = module["main"]
    inputs = main.params[: int(main.attrs[NUM_INPUT])]
    params = [*inputs, *made]
    attrs = with_plan(main.attrs, plan)
    result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
    result["main"] = relax.Function(params, body, main.ret_ty, main.is_pure, attrs, main.span)
    return relax.transform.Normalize()(result)


def without_dead_code(body: relax.Expr) -> relax.Expr:
    """Drop the bindings that nobody reads any more: transposes and joins of replaced weights."""
    free = relax.analysis.free_vars(body)
    return relax.analysis.remove_all_unused(relax.Function(free, body)).body


def weights_read(function: relax.Function, body: relax.Expr) -> list[relax.Var]:
    """Return the weights of `function` that `body` reads, in the order of its parameters."""
    first = int(function.attrs[NUM_INPUT])
    read = set(relax.analysis.free_vars(body))
    return [param for param in function.params[first:] if param in read]
