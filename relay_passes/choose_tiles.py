"""Notes at calls how their kernels are to cut their work, where tuning has found a better way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import PassResult
from schedules.choices import Tiled
from tvm_vacc.ops import gqa_attention, packed_linear, packed_quantized_linear
from tvm_vacc.ops._chosen_tiles import TILES
from tvm_vacc.ops.gqa_attention import attention_of
from tvm_vacc.ops.packed_linear import linear_of as of_floats
from tvm_vacc.ops.packed_quantized_linear import linear_of as of_codes

_READERS: Mapping[ir.Op, Callable[[relax.Call], Tiled]] = {
    packed_linear.op: of_floats,
    packed_quantized_linear.op: of_codes,
    gqa_attention.op: attention_of,
}


@dataclass(frozen=True)
class TileChoice:
    """How one kernel is to cut its work.

    Attributes:
        of: what the kernel is made for.
        tiles: what it is to choose otherwise than by default (`schedules.choices`), by name.
    """

    of: Tiled
    tiles: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.of}: {', '.join(f'{name} {value}' for name, value in self.tiles)}"


@dataclass(frozen=True)
class ChooseTiles:
    """Give calls of packed linears and attention the attribute ``tiles``; matches count them.

    Attributes:
        choices: one a kernel, at most.
    """

    choices: tuple[TileChoice, ...]
    name: str = field(default="choose_tiles", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite all Relax functions of `module`."""
        chooser = _Chooser(module, {choice.of: choice for choice in self.choices})
        for gvar, function in module.functions_items():
            if isinstance(function, relax.Function):
                chooser.builder_.update_func(gvar, chooser.visit_expr(function))
        note = "; ".join(map(str, chooser.used)) or "no kernel of this model gains by these records"
        return PassResult(chooser.builder_.get(), chooser.matches, note)


def tiled_calls(module: ir.IRModule) -> Iterator[tuple[Tiled, relax.Call]]:
    """Yield the calls of kernels that have choices, and what the kernel of each is made for."""
    found: list[relax.Call] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and expr.op in _READERS:
            found.append(expr)

    for _, function in module.functions_items():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    for call in found:
        yield _READERS[call.op](call), call


@mutator
class _Chooser(PyExprMutator):
    """Adds the attribute where there is a choice; `used` are these choices, in order."""

    def __init__(self, module: ir.IRModule, choices: Mapping[Tiled, TileChoice]) -> None:
        super().__init__(module)
        self.choices = choices
        self.used: dict[TileChoice, None] = {}
        self.matches = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        reader = _READERS.get(call.op) if isinstance(call.op, ir.Op) else None
        choice = None if reader is None else self.choices.get(reader(call))
        if choice is None:
            return call
        self.matches += 1
        self.used[choice] = None
        attrs = {**dict(call.attrs.items()), TILES: dict(choice.tiles)}
        attrs_node = ir.make_node("ir.DictAttrs", **attrs)
        return relax.Call(call.op, list(call.args), attrs_node, call.ty_args, call.span)
