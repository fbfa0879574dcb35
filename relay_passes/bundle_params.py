"""Bundles the caches and the weights into one argument: a call of the model then passes eight."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax

from relay_passes.base import NUM_CACHES, NUM_INPUT, PassResult

ENTRY = "forward"
"""Name of the function the runtime calls."""


@dataclass(frozen=True)
class BundleParams:
    """Turn ``main(inputs, caches, weights)`` into ``forward(inputs, (caches, weights))``."""

    name: str = field(default="bundle_params", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Bundle the parameters after the plain inputs; matches once."""
        main = module["main"]
        caches = int(main.attrs.get(NUM_CACHES, 0))
        inputs = int(main.attrs[NUM_INPUT]) - caches
        module = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
        module["main"] = main.with_attr(NUM_INPUT, inputs)
        bundled = relax.transform.BundleModelParams("model_params")(module)
        functions = dict(bundled.functions_items())
        [name] = [gvar for gvar in functions if gvar.name_hint == "main"]
        forward = functions.pop(name).with_attr("global_symbol", ENTRY)
        result = ir.IRModule(functions, attrs=module.attrs)
        result[ENTRY] = forward
        return PassResult(result, 1)
