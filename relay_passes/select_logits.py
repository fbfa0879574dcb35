"""Computes logits only for the tokens that are asked for.

The head of GLM-4 maps every token to 151552 logits; a prefill of 512 tokens needs one row of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import ir, relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import NUM_CACHES, NUM_INPUT, PassResult
from relay_passes.rewriter import View, is_call
from relay_passes.weights import head_of

LOGIT_ROWS = "logit_rows"
"""Name of the added input: ``[outputs]`` int32, indices of tokens."""


@dataclass(frozen=True)
class SelectLogits:
    """Gather the tokens of ``logit_rows`` before the final norm and the head.

    Matches once in a decoder whose only output is a `linear`, quantised or not; never otherwise.
    A quantised model may round its inputs and its result.
    """

    name: str = "select_logits"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``; the new input stands before the caches, after the other inputs."""
        function = module["main"]
        head = head_of(function)
        if head is None:
            return PassResult(module, 0)
        before = View.of(function).exact(head.args[0])
        first = before if is_call(before, "tvm_vacc.rms_norm") else head

        outputs = tirx.Var("outputs", "int64")
        rows = relax.Var(LOGIT_ROWS, relax.TensorType((outputs,), "int32"))
        inputs = int(function.attrs[NUM_INPUT])
        at = inputs - int(function.attrs[NUM_CACHES])
        params = [*function.params[:at], rows, *function.params[at:]]
        body = _TakeBefore(first, rows).visit_expr(function.body)
        attrs = ir.make_node("ir.DictAttrs", **{**function.attrs, NUM_INPUT: inputs + 1})
        rewritten = relax.Function(params, body, None, function.is_pure, attrs, function.span)
        result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
        result["main"] = rewritten
        return PassResult(relax.transform.Normalize()(result), 1)


@mutator
class _TakeBefore(PyExprMutator):
    """Replaces the first argument of one call by the selected tokens of it."""

    def __init__(self, call: relax.Call, rows: relax.Var) -> None:
        super().__init__()
        self.call, self.rows = call, rows

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_it = call.same_as(self.call)
        call = self.visit_expr_post_order(call)
        if not is_it:
            return call
        axis = len(call.args[0].ty.shape) - 2
        taken = self.builder_.emit(relax.op.take(call.args[0], self.rows, axis, mode="clip"))
        return relax.Call(call.op, [taken, *call.args[1:]], call.attrs, span=call.span)
