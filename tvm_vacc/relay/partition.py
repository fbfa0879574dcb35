"""``partition_for_tvm_vacc``: what a build for ``tvm_vacc`` will run on our own kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import ir, relax

from relay_passes.bundle_params import BundleParams
from relay_passes.pack_weights import PackWeights
from tvm_vacc.pipeline import run_pipeline
from tvm_vacc.relay import explain
from tvm_vacc.relay.build_module import chosen_steps
from tvm_vacc.relay.pass_context import current_options
from tvm_vacc.steps.bound_weights import BoundModule, bind_weights


def partition_for_tvm_vacc(
    mod: ir.IRModule, params: Mapping[str, Any] | None = None
) -> ir.IRModule:
    """Return `mod` with all that our kernels take on as operators ``relax.tvm_vacc.*``.

    Relay's partitioning moved such operators into functions of their own; ours stay where they
    are. A build for ``tvm_vacc`` does this by itself; here the result can be looked at first.

    Args:
        mod: a module with a function ``main``.
        params: weights by name of parameter: they become constants.

    Raises:
        ConfigError: `mod` or `params` cannot be used.
    """
    bound = bind_weights(mod, params)
    steps = [
        step
        for step in chosen_steps(current_options())
        if not isinstance(step.run, (BundleParams, PackWeights))
    ]
    module, _ = run_pipeline(bound.module, steps)
    bind = 'relax.transform.BindParams("main", params)(mod)' if params else "mod"
    explain.lines(f"partitioned = {bind}  # tvm.compile for 'tvm_vacc' chooses what is ours")
    partitioned = BoundModule(module, bound.weights).frozen()
    return relax.transform.Normalize()(partitioned)
