"""Builds expressions and runs them on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm

from tvm_vacc import relay
from tvm_vacc.relay.graph_executor import GraphModule


def run(
    body: tvm.relax.Expr | relay.TupleWrapper,
    arrays: dict[str, np.ndarray],
    *,
    target: str = "llvm",
    params: Sequence[str] = (),
) -> list[np.ndarray]:
    """Return what the function with this body gives for `arrays`; those in `params` are bound."""
    expr = body.astuple() if isinstance(body, relay.TupleWrapper) else body
    function = relay.Function(relay.analysis.free_vars(expr), body)
    library = relay.build(
        tvm.IRModule.from_expr(function),
        target=target,
        params={name: tvm.runtime.tensor(arrays[name]) for name in params},
    )
    module = GraphModule(library["default"](tvm.cpu()))
    module.run(**arrays)
    return [module.get_output(index).numpy() for index in range(module.get_num_outputs())]
