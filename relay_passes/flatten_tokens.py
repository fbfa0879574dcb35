"""Drops the batch dimension of 1 that exporters' graphs carry through every activation.

Rows of a batch stand one after the other in the tokens (see `rewrite_kv_cache`), so that
``[1, seq, ...]`` says nothing that ``[seq, ...]`` does not; but every kernel takes
``[tokens, ...]``, and on a small model the reshapes between the two cost the virtual machine more
than some of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax

from relay_passes.base import NUM_CACHES, NUM_INPUT, PassResult
from relay_passes.rewriter import (
    emit,
    is_call,
    is_straight,
    replace_main,
    shape_of,
    static,
    substitute,
)
from tvm_vacc import ops

TOKEN_WISE = frozenset(
    op.op
    for op in (
        ops.embedding,
        ops.gqa_attention,
        ops.kv_append,
        ops.linear,
        ops.quantized_linear,
        ops.rms_norm,
        ops.rope,
        ops.swiglu,
    )
)
"""Our operators: all take any leading dimensions of tokens."""

ELEMENT_WISE = ("add", "astype", "cos", "divide", "multiply", "sin", "subtract")
"""Stock operators that broadcast, so that a leading 1 may go from all operands at once."""


@dataclass(frozen=True)
class FlattenTokens:
    """Rewrite ``main`` from ``[1, seq, ...]`` to ``[seq, ...]``, its inputs and result included.

    An operator that is not known to be indifferent runs between two reshapes.
    Matches once where an input other than the caches has the dimension; never otherwise.
    """

    name: str = field(default="flatten_tokens", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the flattened module."""
        main = module["main"]
        if not is_straight(main) or not main.attrs or NUM_INPUT not in main.attrs:
            return PassResult(module, 0)
        inputs = int(main.attrs[NUM_INPUT]) - int(main.attrs.get(NUM_CACHES, 0))
        batched = [param for param in main.params[:inputs] if _is_batched(param)]
        if not batched:
            return PassResult(module, 0)
        return PassResult(replace_main(module, _Flattener(main, batched).function()), 1)


def _is_batched(expr: relax.Expr) -> bool:
    shape = shape_of(expr)
    return len(shape) >= 2 and static(shape[0]) == 1


class _Flattener:
    """One walk over the bindings.

    Attributes:
        flat: variables of the old function that have lost the dimension, by their new ones.
        renamed: the others.
    """

    def __init__(self, main: relax.Function, batched: list[relax.Var]) -> None:
        self.main = main
        self.builder = relax.BlockBuilder()
        self.flat: dict[relax.Var, relax.Expr] = {
            param: relax.Var(param.name, relax.TensorType(shape_of(param)[1:], param.ty.dtype))
            for param in batched
        }
        self.renamed: dict[relax.Var, relax.Expr] = {}

    def function(self) -> relax.Function:
        """Return the flattened function."""
        params = [self.flat.get(param, param) for param in self.main.params]
        with self.builder.function("main", params):
            with self.builder.dataflow():
                for binding in self.main.body.blocks[0].bindings:
                    self._bind(binding)
                result = self.builder.emit_output(self._new(self.main.body.body))
            self.builder.emit_func_output(result)
        return self.builder.get()["main"].with_attrs(dict(self.main.attrs))

    def _new(self, var: relax.Expr) -> relax.Expr:
        return self.flat[var] if var in self.flat else substitute(var, self.renamed)

    def _bind(self, binding: relax.VarBinding) -> None:
        value = binding.value
        if value in self.flat:
            self.flat[binding.var] = self.flat[value]
            return
        if not any(var in self.flat for var in relax.analysis.free_vars(value)):
            self.renamed[binding.var] = self.builder.emit(substitute(value, self.renamed))
            return
        span = value.span if isinstance(value, relax.Call) else None
        new = self._flattened(value)
        if new is None:
            new = substitute(value, {**self.renamed, **self._restored(value)})
            if _is_batched(value):
                new = relax.op.reshape(self.builder.emit(new), shape_of(value)[1:])
        target = self.flat if _is_batched(value) else self.renamed
        target[binding.var] = emit(self.builder, new, span)

    def _flattened(self, value: relax.Expr) -> relax.Expr | None:
        """Return `value` on flat operands, None where its operator is not known."""
        if not isinstance(value, relax.Call):
            return None
        if value.op in TOKEN_WISE:
            return relax.Call(value.op, [self._new(arg) for arg in value.args], value.attrs)
        if is_call(value, "reshape") and _is_batched(value):
            return relax.op.reshape(self._new(value.args[0]), shape_of(value)[1:])
        if is_call(value, "take") and value.args[0] in self.flat and int(value.attrs.axis) > 0:
            rows, axis = self._new(value.args[1]), int(value.attrs.axis) - 1
            return relax.op.take(self._new(value.args[0]), rows, axis, value.attrs.mode)
        if is_call(value, *ELEMENT_WISE):
            rank = len(shape_of(value))
            # A lone operand of full rank would broadcast against the wrong dimension.
            if all(arg in self.flat or len(shape_of(arg)) < rank for arg in value.args):
                return relax.Call(value.op, [self._new(arg) for arg in value.args], value.attrs)
        return None

    def _restored(self, value: relax.Expr) -> dict[relax.Var, relax.Expr]:
        """Return the flat operands of `value` with their dimension put back."""
        return {
            var: self.builder.emit(relax.op.reshape(self.flat[var], shape_of(var)))
            for var in relax.analysis.free_vars(value)
            if var in self.flat
        }
