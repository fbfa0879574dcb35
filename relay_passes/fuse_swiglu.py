"""Fuses ``silu(gate) * up``, both halves of one projection, into `relax.tvm_vacc.swiglu`."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, operand, rewrite, shape_of, static
from relay_passes.slices import Slice, slice_of
from tvm_vacc.ops.swiglu import swiglu


@dataclass(frozen=True)
class FuseSwiglu:
    """Gate is the first half of the last axis, up the second (Shazeer, 2020; GLM's layout)."""

    name: str = "fuse_swiglu"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its gates fused; expects canonical form."""
        return rewrite(module, _rule)


def _rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    if not is_call(expr, "multiply") or expr.ty.dtype != "float32":
        return None
    for activated, linear_half in (tuple(expr.args), tuple(expr.args)[::-1]):
        silu = graph.call(activated, "nn.silu")
        gate, up = slice_of(graph, operand(silu)), slice_of(graph, linear_half)
        if gate is None or up is None or not gate.source.same_as(up.source):
            continue
        last = len(shape_of(gate.source)) - 1
        width = static(shape_of(gate.source)[last])
        if width is None or width % 2:
            continue
        first_half = Slice(gate.source, last, 0, width // 2, 1)
        second_half = Slice(gate.source, last, width // 2, width, 1)
        if gate.same_as(first_half) and up.same_as(second_half):
            return swiglu(gate.source)
    return None
