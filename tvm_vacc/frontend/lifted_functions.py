"""Functions of their own for what cannot stand in a straight block: branches and steps of loops.

`main` stays one dataflow block, which is what graph passes rewrite and TVM fuses; what a function
reads of its surroundings becomes parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.relax.utils import copy_with_new_vars


@dataclass(frozen=True)
class Lifted:
    """A function of the module under construction.

    Attributes:
        function: with the variables that it was built of, its last parameters those it captured.
        reference: what calls it.
        captured: the arguments for those parameters, where it was built.
    """

    function: relax.Function
    reference: ir.GlobalVar
    captured: tuple[relax.Expr, ...]

    def call(self, *arguments: relax.Expr) -> relax.Call:
        """Return a call with `arguments` and what was captured."""
        return relax.Call(self.reference, [*arguments, *self.captured])


def lift(
    bb: relax.BlockBuilder,
    name: str,
    params: Sequence[relax.Var],
    build: Callable[[], Sequence[relax.Expr]],
    *,
    straight: bool = True,
) -> Lifted:
    """Add a function to the module that `bb` builds, and go on where it stood.

    Args:
        bb: inside a function.
        name: of the new function, made unique.
        params: it begins with these.
        build: emits the body and returns the results, a tuple of which the function returns.
        straight: the body is one dataflow block; else it may branch.
    """
    own = function_of(bb, params, build, straight=straight)
    free = [var for var in relax.analysis.free_vars(own) if _holds_value(var)]
    # A variable that is a size is captured like a tensor, in a parameter that is a shape.
    sizes = list(relax.analysis.free_symbolic_vars(relax.Function([*params, *free], own.body)))
    shapes = [relax.Var("sizes", relax.ShapeType(sizes))] if sizes else []
    function = _with_plain_parameters(relax.Function([*params, *free, *shapes], own.body))
    reference = bb.add_func(copy_with_new_vars(function), name)
    captured = (*free, *([relax.ShapeExpr(sizes)] if sizes else []))
    return Lifted(function, reference, captured)


def function_of(
    bb: relax.BlockBuilder,
    params: Sequence[relax.Var],
    build: Callable[[], Sequence[relax.Expr]],
    *,
    straight: bool = True,
) -> relax.Function:
    """Return a function that is not added to the module.

    Args:
        bb: inside a function.
        params: of the new one.
        build: emits its body and returns the results, a tuple of which it returns.
        straight: the body is one dataflow block; else it may branch.
    """
    bb.begin_scope(list(params))
    (bb._begin_dataflow_block if straight else bb._begin_binding_block)()
    with _block_closed(bb) as blocks:
        results = relax.Tuple(list(build()))
        output = bb.emit_output(results) if straight else bb.emit(results)
    bb.end_scope()
    return relax.Function(list(params), bb.normalize(relax.SeqExpr(blocks, output)))


def branch(
    bb: relax.BlockBuilder,
    condition: relax.Expr,
    then: Callable[[], Sequence[relax.Expr]],
    otherwise: Callable[[], Sequence[relax.Expr]],
) -> relax.Var:
    """Emit a branch on `condition`, a boolean scalar; return the tuple that either side makes."""

    def sequence(build: Callable[[], Sequence[relax.Expr]]) -> relax.SeqExpr:
        bb._begin_binding_block()
        with _block_closed(bb) as blocks:
            result = bb.emit(relax.Tuple(list(build())))
        return relax.SeqExpr(blocks, result)

    return bb.emit(relax.If(condition, sequence(then), sequence(otherwise)))


@contextlib.contextmanager
def _block_closed(bb: relax.BlockBuilder) -> Iterator[list[relax.BindingBlock]]:
    """Put the block that is open into the list at the end; an open one would stop every other."""
    blocks: list[relax.BindingBlock] = []
    try:
        yield blocks
    finally:
        blocks.append(bb._end_block())


def _with_plain_parameters(function: relax.Function) -> relax.Function:
    """Return `function`, none of whose parameters is a variable of a dataflow block."""
    plain = {
        param: relax.Var(param.name, param.ty)
        for param in function.params
        if isinstance(param, relax.DataflowVar)
    }
    params = [plain.get(param, param) for param in function.params]
    return relax.Function(params, _Renamer(plain).visit_expr(function.body)) if plain else function


@mutator
class _Renamer(PyExprMutator):
    """Puts variables in the place of others."""

    def __init__(self, renamed: dict[relax.Var, relax.Var]) -> None:
        super().__init__()
        self.renamed = renamed

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        new = self.renamed.get(var)
        return super().visit_dataflow_var_(var) if new is None else new


def _holds_value(var: relax.Var) -> bool:
    """Whether `var` holds a value at run time; a variable that is a size is of another kind."""
    return isinstance(var.ty, relax.TensorType | relax.TupleType | relax.ShapeType)
