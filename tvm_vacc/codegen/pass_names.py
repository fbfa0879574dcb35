"""Which passes there are: ours, and TVM's between a Relax module and machine code."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import tvm
from tvm import relax
from tvm.ir.instrument import pass_instrument

from tvm_vacc.errors import ConfigError
from tvm_vacc.pipeline import Step


def check_pass_names(
    steps: Sequence[Step], names: Sequence[str], target: tvm.target.Target | None = None
) -> None:
    """Refuse names that are neither passes of `steps` nor, with a target, TVM's for it.

    Raises:
        ConfigError: lists the passes there are.
    """
    ours = [step.run.name for step in steps]
    unknown = [name for name in names if name not in ours]
    if not unknown:
        return
    stock = build_pass_names(target) if target is not None else ()
    for name in unknown:
        if name not in stock:
            near = difflib.get_close_matches(name, [*ours, *stock], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            listed = f"{', '.join(ours)}" + (f"; of TVM: {', '.join(stock)}" if stock else "")
            raise ConfigError(f"there is no pass {name}", f"{hint}choose of {listed}")


def build_pass_names(target: tvm.target.Target) -> tuple[str, ...]:
    """Return the names of TVM's passes in the order in which a build for `target` enters them.

    TVM lists them nowhere: a function that adds two tensors is built and watched, in 0.1 s.
    """
    x = relax.Var("x", relax.TensorType((1,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    seen = _Names()
    with tvm.transform.PassContext(opt_level=3, instruments=[seen]):
        tvm.compile(builder.get(), target=target)
    return tuple(name for name in dict.fromkeys(seen.names) if "dispatch" not in name)


@pass_instrument
class _Names:
    """Notes the passes that are entered."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run_before_pass(self, _module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM."""
        self.names.append(str(info.name))
