"""Reads positions from the input `position_ids` where a graph computes them by itself.

Exporters whose graph has no such input count the mask's ones or add a range to the length of the
past. Neither is known when pages stand for the past, and with a mask of ones, which is all that
rows without padding can have, both are the absolute positions. They are recognised by value: what
depends on nothing but mask and lengths is run for several pasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import ir, relax

from relay_passes.base import NUM_INPUT, PassResult
from relay_passes.count_ops import count_ops
from relay_passes.cut import cut, inputs_at, operands_of, runner
from relay_passes.rewriter import (
    View,
    is_straight,
    replace_main,
    same_dim,
    shape_of,
    static,
)
from tvm_vacc.errors import PassError

POSITIONS = "position_ids"
MASK = "attention_mask"

_CASES = ((0, 16), (13, 3), (31, 1), (5, 27), (0, 128), (4090, 6))
"""(past, seq): prefill, chunks, decode; totals are whole pages."""


@dataclass(frozen=True)
class FindPositions:
    """Matches count the tensors of positions; the mask, once nothing reads it, goes away."""

    name: str = "find_positions"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with `position_ids`; expects `fuse_gqa_attention` to have run.

        Raises:
            PassError: all attentions are fused, and the graph still reads the mask or the length
                of the past for something else.
        """
        main = module["main"]
        counts = count_ops(module)
        if "gqa_attention" not in counts or "kv_gather" in counts or not is_straight(main):
            return PassResult(module, 0)
        matches = 0
        if _reads_past(main):
            found = _positions(main)
            main, matches = _from_input(main, found), len(found)
        main = _without_unused_mask(replace_main(module, main)["main"])
        if _reads_past(main):
            raise PassError(
                f"{self.name}: the graph computes from the length of the past or from {MASK} what "
                "are neither positions nor a causal mask",
                f"export the model with {POSITIONS} as an input, and without padding",
            )
        return PassResult(replace_main(module, main), matches)


def _reads_past(main: relax.Function) -> bool:
    """Whether mask or number of pages, which stand for the past, are read by the graph itself."""
    used = set(relax.analysis.free_vars(main.body))
    params = {param.name: param for param in main.params}
    return params.get(MASK) in used or shape_of(params["page_table"])[1] in used


def _positions(main: relax.Function) -> list[relax.Var]:
    """Return the variables that hold ``past + arange(seq)``, whatever their shape."""
    view = View.of(main)
    params = {param.name: param for param in view.inputs}
    seq = shape_of(params["input_ids"])[1]
    known = {params[MASK]} if MASK in params else set()
    candidates = []
    for binding in main.body.blocks[0].bindings:
        if not known.issuperset(operands_of(binding.value)):
            continue
        known.add(binding.var)
        dims = [dim for dim in shape_of(binding.var) if static(dim) != 1]
        is_integer = len(dims) == 1 and binding.var.ty.dtype in ("int32", "int64")
        if is_integer and same_dim(dims[0], seq):
            candidates.append(binding.var)
    inputs = [param for param in view.inputs if len(shape_of(param)) < 4]
    function = cut(view, inputs, candidates) if candidates else None
    if function is None:
        return []
    run = runner(function)
    agrees = np.ones(len(candidates), bool)
    for past, length in _CASES:
        arrays = inputs_at(inputs, past, length)
        if arrays is None:
            return []
        wanted = np.arange(past, past + length)
        agrees &= [np.array_equal(result.ravel(), wanted) for result in run(arrays)]
    return [var for var, agreed in zip(candidates, agrees, strict=True) if agreed]


def _from_input(main: relax.Function, found: list[relax.Var]) -> relax.Function:
    """Bind the variables of `found` to `position_ids`, which becomes the second input if new."""
    params = list(main.params)
    positions = next((param for param in params if param.name == POSITIONS), None)
    added = 0
    if positions is None and found:
        seq = shape_of(params[0])[1]
        positions = relax.Var(POSITIONS, relax.TensorType([1, seq], "int64"))
        params.insert(1, positions)
        added = 1
    builder = relax.BlockBuilder()
    bindings = []
    for binding in main.body.blocks[0].bindings:
        if binding.var in found:
            cast = builder.normalize(relax.op.astype(positions, binding.var.ty.dtype))
            held = relax.DataflowVar(f"{POSITIONS}_{binding.var.name}", cast.ty)
            shaped = builder.normalize(relax.op.reshape(held, shape_of(binding.var)))
            bindings += [relax.VarBinding(held, cast), relax.VarBinding(binding.var, shaped)]
        else:
            bindings.append(binding)
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], main.body.body)
    function = relax.Function(params, body, main.ret_ty, main.is_pure, main.attrs)
    return function.with_attr(NUM_INPUT, int(main.attrs[NUM_INPUT]) + added)


def _without_unused_mask(main: relax.Function) -> relax.Function:
    """Drop the input `attention_mask` where nothing reads it."""
    used = set(relax.analysis.free_vars(main.body))
    params = [param for param in main.params if param.name != MASK or param in used]
    dropped = len(main.params) - len(params)
    function = relax.Function(params, main.body, main.ret_ty, main.is_pure, main.attrs)
    return function.with_attr(NUM_INPUT, int(main.attrs[NUM_INPUT]) - dropped)
