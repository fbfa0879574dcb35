"""Decides by evaluation whether a graph scales its scores and masks them causally.

Exporters write masks in many ways (additive, boolean, `where`, from shapes, from positions, through
gather); what they have in common is the value. The subgraph between the scores and the softmax is
cut out, compiled by stock TVM and run for several pasts and lengths, with random scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import ir, relax

from relay_passes.rewriter import View, shape_of
from tvm_vacc.limits import PAGE_SIZE

_CASES = ((0, 16), (13, 3), (31, 1), (5, 27), (0, 128), (4090, 6), (65535, 1))
"""(past, seq): prefill, chunks, decode; totals are whole pages. The long ones find windows."""

_HIDDEN = -9e3
"""A logit at or below this has no weight after the softmax: masks add -1e4 or less to scores."""


@dataclass
class CausalMasks:
    """Remembers the expressions it has judged: the layers of a model share one."""

    _judged: list[tuple[relax.Function, float | None]] = field(default_factory=list)

    def scale(self, view: View, scores: relax.Var, logits: relax.Expr) -> float | None:
        """Return the factor by which `logits` scales `scores` where its mask is causal.

        Args:
            view: the function they are in.
            scores: ``[1, heads, seq, total]``.
            logits: computed from `scores` and the model's inputs.

        Returns:
            The factor; None where the mask is another one, or none, or depends on weights.
        """
        function = _cut(view, scores, logits)
        if function is None:
            return None
        for known, scale in self._judged:
            if tvm_ffi.structural_equal(known, function):
                return scale
        self._judged.append((function, _measured_scale(function)))
        return self._judged[-1][1]


def _cut(view: View, scores: relax.Var, logits: relax.Expr) -> relax.Function | None:
    """Return ``(scores, inputs...) -> logits``, None where anything else is needed."""
    inputs = [param for param in view.inputs if len(shape_of(param)) < 4]
    known = {scores, *inputs}
    bindings: dict[relax.Var, relax.Binding] = {}
    stack = [logits]
    while stack:
        var = stack[-1]
        if not isinstance(var, relax.Var):
            return None
        if var in known or var in bindings:
            stack.pop()
            continue
        value = view.lookup(var)
        if value is None:
            return None
        operands = [v for v in relax.analysis.free_vars(value) if not tvm.ir.is_prim_var(v)]
        missing = [v for v in operands if v not in known and v not in bindings]
        if missing:
            stack.extend(missing)
            continue
        bindings[var] = relax.VarBinding(var, value)
        stack.pop()
    result = relax.Var("logits", logits.ty)
    block = relax.DataflowBlock([*bindings.values(), relax.VarBinding(result, logits)])
    function = relax.Function(
        [scores, *inputs], relax.SeqExpr([block], result), result.ty
    ).with_attr("global_symbol", "main")
    return None if relax.analysis.free_symbolic_vars(function) else function


def _measured_scale(function: relax.Function) -> float | None:
    executable = tvm.compile(ir.IRModule({"main": function}), target="llvm")
    run = relax.VirtualMachine(executable, tvm.cpu())["main"]
    heads = int(shape_of(function.params[0])[1])
    generator = np.random.default_rng(0)
    scale = None
    for past, seq in _CASES:
        inputs = _inputs(function, past, seq)
        if inputs is None:
            return None
        scores = generator.standard_normal((1, heads, seq, past + seq), dtype=np.float32)
        scores[..., 0] = 1  # position 0 is visible to all: there a logit is the factor itself
        logits = run(*(tvm.runtime.tensor(array) for array in (scores, *inputs))).numpy()
        scale = float(logits[0, 0, 0, 0]) if scale is None else scale
        visible = np.arange(past + seq) <= past + np.arange(seq)[:, None]
        seen = np.allclose(
            np.where(visible, logits, 0), np.where(visible, scale * scores, 0), atol=1e-5
        )
        if not seen or not np.all(np.where(visible, _HIDDEN, logits) <= _HIDDEN):
            return None
    return scale


def _inputs(function: relax.Function, past: int, seq: int) -> list[np.ndarray] | None:
    """Return values for the model's inputs, which are known by name; None if one is not."""
    total = past + seq
    pages = total // PAGE_SIZE
    values: dict[str, Any] = {
        "input_ids": np.ones((1, seq)),
        "position_ids": np.arange(past, total)[None],
        "attention_mask": np.ones((1, total)),
        "slots": np.arange(past, total),
        "page_table": np.arange(pages)[None],
        "query_start": np.array([0, seq]),
        "kv_lens": np.array([total]),
    }
    names = [param.name for param in function.params[1:]]
    if not set(names) <= set(values):
        return None
    return [values[param.name].astype(str(param.ty.dtype)) for param in function.params[1:]]
