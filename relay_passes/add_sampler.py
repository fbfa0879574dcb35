"""Adds the function that draws the next token of every row."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax, tirx

from relay_passes.base import PassResult
from tvm_vacc.ops import sample

SAMPLER = "sample"
"""Name of the added function."""


@dataclass(frozen=True)
class AddSampler:
    """Add ``sample(logits, temperature, top_p, top_k, uniform) -> tokens``.

    Types as those of `tvm_vacc.ops.sample`, over any number of rows; the vocabulary is the one of
    ``forward``'s result.
    """

    name: str = field(default="add_sampler", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Add the function; matches once."""
        vocab = module["forward"].ret_ty.shape[-1]
        rows = tirx.Var("rows", "int64")
        params = [relax.Var("logits", relax.TensorType((rows, vocab), "float32"))]
        params += [
            relax.Var(name, relax.TensorType((rows,), dtype))
            for name, dtype in (
                ("temperature", "float32"),
                ("top_p", "float32"),
                ("top_k", "int32"),
                ("uniform", "float32"),
            )
        ]
        builder = relax.BlockBuilder()
        with builder.function(SAMPLER, params):
            with builder.dataflow():
                tokens = builder.emit_output(sample(*params))
            builder.emit_func_output(tokens)
        result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
        result[SAMPLER] = builder.get()[SAMPLER]
        return PassResult(result, 1)
