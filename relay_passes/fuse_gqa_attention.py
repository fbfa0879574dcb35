"""Fuses softmax attention over the paged cache into `relax.tvm_vacc.gqa_attention`.

The operator is causal by definition, so the graph's mask has to be proven causal: see
`causal_mask`. Once no mask is left, the input it came from goes away.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.attention_core import attention_core
from relay_passes.base import NUM_INPUT, PassResult
from relay_passes.causal_mask import CausalMasks
from relay_passes.count_ops import count_ops
from relay_passes.rewriter import Graph, is_straight, rewrite, shape_of
from tvm_vacc.errors import PassError
from tvm_vacc.ops.gqa_attention import gqa_attention


@dataclass(frozen=True)
class FuseGqaAttention:
    """``softmax(q k^T * scale + causal mask) v`` on the results of one `kv_gather`."""

    name: str = "fuse_gqa_attention"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its attentions fused; expects `rewrite_kv_cache` to have run.

        Raises:
            PassError: all attentions are fused and the graph still reads the length of the past:
                it computes positions from it, which a paged cache does not know.
        """
        masks = CausalMasks()
        result = rewrite(module, lambda graph, expr: _rule(graph, expr, masks))
        main = result.module["main"]
        if not result.matches or not is_straight(main):
            return result
        replaced = ir.IRModule(dict(result.module.functions_items()), attrs=module.attrs)
        replaced["main"] = _without_unused_mask(main)
        if "kv_gather" not in count_ops(replaced):
            _refuse_positions_from_lengths(replaced["main"])
        return PassResult(replaced, result.matches)


def _rule(graph: Graph, expr: relax.Expr, masks: CausalMasks) -> relax.Expr | None:
    core = attention_core(graph, expr)
    if core is None or core.query.ty.dtype != "float32":
        return None
    key, value = graph.value(core.key), graph.value(core.value)
    if not all(isinstance(part, relax.TupleGetItem) for part in (key, value)):
        return None
    gather = graph.call(key.tuple_value, "tvm_vacc.kv_gather")
    same_layer = key.tuple_value.same_as(value.tuple_value)
    if gather is None or not same_layer or (key.index, value.index) != (0, 1):
        return None
    scale = masks.scale(graph, core.scores, core.logits)
    if scale is None:
        return None
    key_cache, value_cache, page_table, _ = gather.args
    params = {param.name: param for param in graph.inputs}
    query_BSHD = graph.emit(relax.op.permute_dims(core.query, [0, 2, 1, 3]))
    attended_BSHD = gqa_attention(
        query_BSHD,
        key_cache,
        value_cache,
        page_table,
        params["query_start"],
        params["kv_lens"],
        scale=core.scale * scale,
    )
    return relax.op.permute_dims(graph.emit(attended_BSHD), [0, 2, 1, 3])


def _without_unused_mask(main: relax.Function) -> relax.Function:
    """Drop the input `attention_mask` where nothing reads it."""
    used = set(relax.analysis.free_vars(main.body))
    params = [p for p in main.params if p.name != "attention_mask" or p in used]
    dropped = len(main.params) - len(params)
    function = relax.Function(params, main.body, main.ret_ty, main.is_pure, attrs=main.attrs)
    return function.with_attr(NUM_INPUT, int(main.attrs[NUM_INPUT]) - dropped)


def _refuse_positions_from_lengths(main: relax.Function) -> None:
    used = set(relax.analysis.free_vars(main.body))
    params = {param.name: param for param in main.params}
    pages_per_row = shape_of(params["page_table"])[1]
    if "attention_mask" in params or pages_per_row in used:
        raise PassError(
            "fuse_gqa_attention: the graph computes positions from the length of the past or from "
            "attention_mask",
            "export the model with position_ids as an input",
        )
