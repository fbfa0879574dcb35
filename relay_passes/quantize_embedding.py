"""Stores the embedding table in 8 bits with one scale a row."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import PassResult
from relay_passes.rewriter import with_span
from relay_passes.weight_plan import CODES, MadeTensor, PackedWeight, Quantized, read_plan
from relay_passes.weights import StoredWeights, replace_weights, weights_read, without_dead_code
from tvm_vacc.ops import embedding
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST, W8A16


@dataclass(frozen=True)
class QuantizeEmbedding:
    """Give `embedding` codes and a scale a row where its table is stored; matches count them.

    A row is looked up, never multiplied by: there is nothing to calibrate, so rounding to nearest
    it is, whatever chooses the codes of the linears.
    """

    name: str = field(default="quantize_embedding", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``: made parameters stand after those that it keeps."""
        main = module["main"]
        rewriter = _Quantizer(main)
        body = without_dead_code(rewriter.visit_expr(main.body))
        made = [*weights_read(main, body), *rewriter.params]
        plan = [*read_plan(main), *rewriter.plan]
        return PassResult(replace_weights(module, body, made, plan), len(rewriter.plan))


@mutator
class _Quantizer(PyExprMutator):
    """Swaps tables for codes and scales."""

    def __init__(self, function: relax.Function) -> None:
        super().__init__()
        self.weights = StoredWeights.of(function)
        self.plan: list[PackedWeight] = []
        self.params: list[relax.Var] = []

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op != embedding.op or len(call.args) != 2:
            return call
        table, ids = call.args
        sources = self.weights.sources(table)
        if sources is None:
            return call
        vocab, hidden = (int(dim) for dim in table.ty.shape)
        name = "+".join(source.name for source in sources)
        entry = PackedWeight(
            kind="embedding",
            sources=sources,
            layout=CODES,
            tensors=(
                MadeTensor(f"{name}.rows.codes", (vocab, hidden), "int8"),
                MadeTensor(f"{name}.rows.scales", (vocab, 1), "float32"),
            ),
            quantized=Quantized(ROUND_TO_NEAREST, W8A16.name, hidden),
        )
        made = [tensor.parameter() for tensor in entry.tensors]
        self.plan.append(entry)
        self.params += made
        return with_span(embedding(made[0], ids, made[1]), call.span)
