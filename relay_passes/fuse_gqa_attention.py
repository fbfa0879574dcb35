"""Fuses softmax attention over the paged cache into `relax.tvm_vacc.gqa_attention`.

The operator is causal by definition, so the graph's mask has to be proven causal: see
`causal_mask`. The input it came from goes away in `find_positions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax

from relay_passes.attention_core import attention_core
from relay_passes.base import PassResult
from relay_passes.causal_mask import CausalMasks
from relay_passes.rewriter import Graph, rewrite
from tvm_vacc.ops.gqa_attention import gqa_attention


@dataclass(frozen=True)
class FuseGqaAttention:
    """``softmax(q k^T * scale + causal mask) v`` on the results of one `kv_gather`.

    Attributes:
        products: ``bf16`` or ``fp32``: what is multiplied with caches of 16 and 8 bits, where the
            target can choose; for ``bf16``, int8 codes are multiplied as they are.
    """

    products: str = "bf16"
    name: str = field(default="fuse_gqa_attention", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with its attentions fused; expects `rewrite_kv_cache` to have run."""
        masks = CausalMasks()
        return rewrite(module, lambda graph, expr: _rule(graph, expr, masks, self.products))


def _rule(graph: Graph, expr: relax.Expr, masks: CausalMasks, products: str) -> relax.Expr | None:
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
        products=products,
    )
    return relax.op.permute_dims(graph.emit(attended_BSHD), [0, 2, 1, 3])
