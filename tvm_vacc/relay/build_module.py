"""``relay.build``: from a module to a library."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import ir, relax

from relay_passes.bundle_params import ENTRY, BundleParams
from relay_passes.weight_plan import read_plan
from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.codegen.pass_names import check_pass_names
from tvm_vacc.config import RELAX_DTYPES
from tvm_vacc.errors import ConfigError
from tvm_vacc.pipeline import Step, graph_pipeline, linear_dtype, run_pipeline
from tvm_vacc.relay import explain
from tvm_vacc.relay.factory import GraphExecutorFactoryModule
from tvm_vacc.relay.infer import tensor_spec
from tvm_vacc.relay.pass_context import VaccOptions, current_options
from tvm_vacc.relay.targets import TargetLike, check_executor, resolve_target
from tvm_vacc.runtime.signature import Signature
from tvm_vacc.runtime.tensors import to_tvm
from tvm_vacc.steps.bound_weights import BoundModule, bind_weights, main_of
from tvm_vacc.steps.stored_weights import pack_weight
from tvm_vacc.target import is_vacc


def build(
    ir_mod: ir.IRModule | relax.Function,
    target: TargetLike = None,
    target_host: str | tvm.target.Target | None = None,
    executor: Any = None,
    runtime: Any = None,
    params: Mapping[str, Any] | None = None,
    mod_name: str = "default",
) -> GraphExecutorFactoryModule:
    """Compile a module.

    For ``tvm_vacc`` the passes of `relay_passes` run first, weights are packed, and the kernels of
    `schedules` run them; for ``llvm`` all is stock TVM. The current `tvm.transform.PassContext`
    holds for either: ``opt_level`` 0 leaves the passes of `relay_passes` out, and
    ``disabled_pass`` leaves out those it names.

    Args:
        ir_mod: a module with a function ``main``, or that function.
        target: ``"tvm_vacc"``, ``"tvm_vacc -mcpu=native"``, ``"tvm_vacc, llvm -mcpu=znver4"``,
            ``"llvm"``; a target of TVM; None for the one that surrounds the call.
        target_host: as `target` with ``llvm``: one processor runs both.
        executor: only the graph executor; see `relay.backend`.
        runtime: only the one in C++.
        params: weights by name of parameter: they go into the library.
        mod_name: the name by which ``lib[name](device)`` opens the library.

    Raises:
        ConfigError: the module, `params`, an option or a name cannot be used.
        TargetError: the target cannot be used.
    """
    check_executor(executor, runtime)
    if not (mod_name.isidentifier() and mod_name.isascii()):
        raise ConfigError(f"mod_name is {mod_name!r}", "give letters, digits and underscores")
    if isinstance(ir_mod, relax.Function):
        ir_mod = ir.IRModule.from_expr(ir_mod)
    resolved = resolve_target(target, target_host)
    bound = bind_weights(ir_mod, params)
    module = _run_passes(bound, resolved)
    bytecode = tvm.compile(module, target=resolved, tir_pipeline=NAME).mod
    kernels = tuple(bytecode.imports)
    bytecode.clear_imports()
    given = tuple(params or ())
    weights = _weights(bound, module, given)
    _explain(resolved, params)
    return GraphExecutorFactoryModule(
        bytecode=bytecode,
        kernels=kernels,
        target=resolved,
        libmod_name=mod_name,
        signature=_signature(bound, weights, given),
        params=weights,
        ir_mod=module,
    )


def chosen_steps(options: VaccOptions, target: tvm.target.Target | None = None) -> list[Step]:
    """Return the passes that the current pass context asks for.

    Args:
        options: of the context.
        target: what for, where it is known: fp16 is stored as bf16 where it is multiplied so.

    Raises:
        ConfigError: `options` names a pass that there is not.
    """
    context = tvm.transform.PassContext.current()
    dtype = RELAX_DTYPES[options.dtype]
    linears = linear_dtype(dtype, "bf16", target) if target else dtype
    steps = graph_pipeline(dtype, linears=linears)
    check_pass_names(steps, options.print_ir_after)
    left_out = set(map(str, context.disabled_pass))
    return [
        step
        for step in steps
        if isinstance(step.run, BundleParams)
        or (context.opt_level > 0 and step.run.name not in left_out)
    ]


def _run_passes(bound: BoundModule, target: tvm.target.Target) -> ir.IRModule:
    if not is_vacc(target):
        return BundleParams().apply(bound.module).module
    options = current_options()
    steps = chosen_steps(options, target)
    return run_pipeline(bound.module, steps, print_after=options.print_ir_after)[0]


def _weights(
    bound: BoundModule, module: ir.IRModule, given: Sequence[str]
) -> dict[str, tvm.runtime.Tensor]:
    """Return the tensors that the compiled function takes, in its order, as p0, p1, ...

    They have names of their own, as ever: a script may go on to set its weights by their names,
    which must not reach the packed ones.
    """
    if plan := read_plan(module[ENTRY]):
        arrays = [array for entry in plan for array in pack_weight(entry, bound.weights)]
    else:  # nothing was packed
        arrays = [ref.read() for ref in bound.weights.values()]
    taken = {*given, *(var.name for var in bound.inputs)}
    names = (f"p{index}" for index in itertools.count())
    return dict(
        zip((name for name in names if name not in taken), map(to_tvm, arrays), strict=False)
    )


def _signature(
    bound: BoundModule, weights: Mapping[str, tvm.runtime.Tensor], given: Sequence[str]
) -> Signature:
    returned = main_of(bound.module).ret_ty
    types = list(returned.fields) if isinstance(returned, relax.TupleType) else [returned]
    return Signature(
        inputs=tuple(tensor_spec(var.name, var.ty) for var in bound.inputs),
        params=tuple(
            TensorSpec(name, tuple(map(int, tensor.shape)), str(tensor.dtype))
            for name, tensor in weights.items()
        ),
        outputs=tuple(tensor_spec(f"output{i}", ty) for i, ty in enumerate(types)),
        bound=tuple(given),
    )


def _explain(target: tvm.target.Target, params: Mapping[str, Any] | None) -> None:
    if params:
        explain.lines('mod = relax.transform.BindParams("main", params)(mod)')
    config = {str(key): _plain(value) for key, value in target.attrs.items()}
    name = {"tag": "tvm_vacc"} if is_vacc(target) else {"kind": str(target.kind.name)}
    explain.lines(
        f"executable = tvm.compile(mod, target=tvm.target.Target({ {**name, **config} }))"
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, bool)) else [str(each) for each in value]
