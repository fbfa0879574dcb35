"""Cuts a part out of a function and runs it: what a graph computes tells more than how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax

from relay_passes.rewriter import View
from tvm_vacc.limits import PAGE_SIZE


def cut(
    view: View, params: Sequence[relax.Var], results: Sequence[relax.Expr]
) -> relax.Function | None:
    """Return ``params -> (results...)``, None where a result needs anything else.

    Args:
        view: the function they are in.
        params: variables that the part may read; they define its symbolic dimensions too.
        results: variables of the function.
    """
    bindings: dict[relax.Var, relax.Binding] = {}
    stack = list(results)
    while stack:
        var = stack[-1]
        if not isinstance(var, relax.Var):
            return None
        if var in params or var in bindings:
            stack.pop()
            continue
        value = view.lookup(var)
        if value is None:
            return None
        operands = operands_of(value)
        missing = [v for v in operands if v not in params and v not in bindings]
        if missing:
            stack.extend(missing)
            continue
        bindings[var] = relax.VarBinding(var, value)
        stack.pop()
    result = relax.Var("result", relax.TupleType([expr.ty for expr in results]))
    block = relax.DataflowBlock(
        [*bindings.values(), relax.VarBinding(result, relax.Tuple(list(results)))]
    )
    function = relax.Function(list(params), relax.SeqExpr([block], result), result.ty)
    if relax.analysis.free_symbolic_vars(function):
        return None
    return function.with_attr("global_symbol", "main")


def operands_of(value: relax.Expr) -> list[relax.Var]:
    """Return the tensors that a binding's value reads; symbolic dimensions are none."""
    return [var for var in relax.analysis.free_vars(value) if not tvm.ir.is_prim_var(var)]


def runner(function: relax.Function) -> Callable[[Iterable[np.ndarray]], list[np.ndarray]]:
    """Compile what `cut` returned by stock TVM, for this machine's runtime only."""
    executable = tvm.compile(ir.IRModule({"main": function}), target="llvm")
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    return lambda arrays: [
        result.numpy() for result in main(*(tvm.runtime.tensor(array) for array in arrays))
    ]


def inputs_at(params: Iterable[relax.Var], past: int, seq: int) -> list[np.ndarray] | None:
    """Return what a paged function's inputs hold when `seq` tokens follow `past` others.

    The inputs are known by name; None where one is not. ``past + seq`` must be whole pages.
    """
    total = past + seq
    values: dict[str, Any] = {
        "input_ids": np.ones((1, seq)),
        "position_ids": np.arange(past, total)[None],
        "attention_mask": np.ones((1, total)),
        "slots": np.arange(past, total),
        "page_table": np.arange(total // PAGE_SIZE)[None],
        "query_start": np.array([0, seq]),
        "kv_lens": np.array([total]),
    }
    params = list(params)
    if not {param.name for param in params} <= values.keys():
        return None
    return [values[param.name].astype(str(param.ty.dtype)) for param in params]
