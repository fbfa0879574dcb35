"""Stores the weights of convolutions in 16 bits; they are computed with in fp32."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.rewriter import Graph, is_call, rewrite
from relay_passes.weights import bare_weight
from tvm_vacc.errors import PassError
from tvm_vacc.limits import FP16_MAX
from tvm_vacc.ops.widen import widen

_CONVOLUTIONS = tuple(
    f"nn.conv{rank}d{suffix}" for rank in (1, 2, 3) for suffix in ("", "_transpose")
)


@dataclass(frozen=True)
class NarrowConvolutions:
    """``conv(x, weight)`` becomes ``conv(x, widen(weight as dtype))``.

    Matches count the convolutions whose weights are stored so. Those that the graph computes, or
    that have other types than fp32, stay as they are.

    Attributes:
        dtype: ``float16``, ``bfloat16`` or ``float32``, which leaves all as it is.
    """

    dtype: str
    name: str = field(default="narrow_convolutions", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its convolutions rewritten.

        Raises:
            PassError: a constant weight holds what fp16 does not.
        """
        if self.dtype == "float32":
            return PassResult(module, 0)
        return rewrite(module, self._rule)

    def _rule(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        if not is_call(expr, *_CONVOLUTIONS):
            return None
        data, weight = expr.args
        stored = bare_weight(graph, weight)
        if str(weight.ty.dtype) != "float32" or not graph.is_weight(stored):
            return None
        if str(stored.ty.dtype) != self.dtype:
            self._check(graph.value(stored))
            stored = graph.emit(relax.op.astype(stored, self.dtype))
        return relax.Call(expr.op, [data, graph.emit(widen(stored))], expr.attrs)

    def _check(self, weight: relax.Expr) -> None:
        if self.dtype != "float16" or not isinstance(weight, ir.GenericConst):
            return  # a parameter is held against its dtype when it is packed
        largest = float(np.max(np.abs(weight.value.numpy().astype(np.float64)), initial=0))
        if largest > FP16_MAX:
            raise PassError(
                f"the weight of a convolution holds {largest:g}, fp16 ends at {FP16_MAX:g}",
                "compile with --dtype bf16",
            )
