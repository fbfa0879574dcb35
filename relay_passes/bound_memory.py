"""Tells memory planning how large a step can get, so that it plans once for all sizes.

Without a bound every number of tokens asks the allocator for blocks of its own sizes, which it
keeps: a server that has seen prompts of a thousand lengths would hold a thousand sets of buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tvm import ir, tirx

from relay_passes.base import PassResult
from relay_passes.bundle_params import ENTRY

ATTRIBUTE = "tir_var_upper_bound"
"""Function attribute that stock `StaticPlanBlockMemory` reads: largest value by symbol name."""


@dataclass(frozen=True)
class BoundMemory:
    """Annotate ``forward`` with the largest value of its symbolic dimensions.

    Matches count the bounds that were set.

    Attributes:
        bounds: largest first dimension by the name of a parameter; exporters choose the symbols'
            own names.
    """

    bounds: Mapping[str, int]
    name: str = field(default="bound_memory", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with the annotation; nothing else changes."""
        forward = module[ENTRY]
        symbols = {
            param.ty.shape[0].name: self.bounds[param.name]
            for param in forward.params
            if param.name in self.bounds and isinstance(param.ty.shape[0], tirx.Var)
        }
        result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
        result[ENTRY] = forward.with_attr(ATTRIBUTE, symbols)
        return PassResult(result, len(symbols))
