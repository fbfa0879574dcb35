"""Makes `quantized_linear` of `linear`, and notes how its codes and scales come about.

One pass for 8 and 4 bits. No weight is read: the codes and scales are fresh parameters, and the
plan (`relay_passes.weight_plan`) says of which tensors a quantiser makes them. Round to nearest,
GPTQ and "as the checkpoint stores them" differ in that note alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import PassResult
from relay_passes.weight_plan import CODES, MadeTensor, PackedWeight, Quantized, read_plan
from relay_passes.weights import (
    StoredWeights,
    head_of,
    replace_weights,
    weights_read,
    without_dead_code,
)
from schedules.linear_int4 import GROUPS
from schedules.linear_int8 import LARGEST_IN
from tvm_vacc.errors import ConfigError
from tvm_vacc.ops import linear, quantized_linear
from tvm_vacc.quantize.scheme import SCHEMES, Scheme


@dataclass(frozen=True)
class QuantizeLinears:
    """Turn every `linear` by a stored weight into `quantized_linear`; matches count them.

    Attributes:
        scheme: a key of `SCHEMES`.
        quantizer: what chooses the codes, as the plan names it.
        group_size: inputs that share a scale, where the scheme has groups.
        head: scheme of the linear whose result ``main`` returns first, the head of a language
            model; None leaves it as it is.
    """

    scheme: str
    quantizer: str
    group_size: int
    head: str | None
    name: str = field(default="quantize_linears", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``: made parameters stand after those that it keeps.

        Raises:
            ConfigError: a weight has a number of inputs that the scheme cannot take, or stands in
            the graph itself.
        """
        main = module["main"]
        rewriter = _Quantizer(main, self)
        body = rewriter.visit_expr(main.body)
        if rewriter.refusals:
            raise rewriter.refusals[0]
        body = without_dead_code(body)
        made = [*weights_read(main, body), *rewriter.params.values()]
        plan = [*read_plan(main), *rewriter.plan.values()]
        return PassResult(replace_weights(module, body, made, plan), rewriter.matches)


@mutator
class _Quantizer(PyExprMutator):
    """Swaps the weights of linears for codes and scales."""

    def __init__(self, function: relax.Function, options: QuantizeLinears) -> None:
        super().__init__()
        self.weights = StoredWeights.of(function)
        self.options = options
        self.head = head_of(function)
        self.plan: dict[str, PackedWeight] = {}
        self.params: dict[str, relax.Var] = {}
        self.refusals: list[ConfigError] = []  # one raised on the way would pass through C++
        self.matches = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_head = self.head is not None and call.same_as(self.head)
        scheme = self.options.head if is_head else self.options.scheme
        call = self.visit_expr_post_order(call)
        if scheme is None or call.op != linear.op:
            return call
        sources = self.weights.sources(call.args[1])
        if sources is None:
            if self.weights.is_constant(call.args[1]):
                self.refusals.append(_inline(call.args[1]))
            return call
        x, weight, *bias = call.args
        out_features, in_features = (int(dim) for dim in weight.ty.shape)
        name = "+".join(source.name for source in sources)
        group_size = in_features if SCHEMES[scheme].weight_bits == 8 else self.options.group_size
        if refusal := _refusal(SCHEMES[scheme], name, in_features, group_size):
            self.refusals.append(refusal)
            return call
        self.matches += 1
        groups = SCHEMES[scheme].groups(in_features, group_size)
        entry = PackedWeight(
            kind="head" if is_head else "linear",
            sources=sources,
            layout=CODES,
            tensors=(
                MadeTensor(f"{name}.{scheme}.codes", (out_features, in_features), "int8"),
                MadeTensor(f"{name}.{scheme}.scales", (out_features, groups), "float32"),
            ),
            quantized=Quantized(self.options.quantizer, scheme, group_size),
        )
        codes, scales = self._parameters(entry)
        attrs = {"scheme": scheme, "group_size": group_size}
        return quantized_linear(x, codes, scales, *bias, **attrs)

    def _parameters(self, entry: PackedWeight) -> list[relax.Var]:
        for tensor in entry.tensors:
            if tensor.name not in self.params:
                self.params[tensor.name] = tensor.parameter()
        self.plan[entry.tensors[0].name] = entry
        return [self.params[tensor.name] for tensor in entry.tensors]


def _inline(weight: relax.Expr) -> ConfigError:
    return ConfigError(
        f"frontend.quantize: a weight of {[int(dim) for dim in weight.ty.shape]} stands inside the "
        ".onnx file",
        "save it by onnx.save(model, path, save_as_external_data=True, size_threshold=0)",
    )


def _refusal(scheme: Scheme, name: str, in_features: int, group_size: int) -> ConfigError | None:
    """Return why the weight `name` cannot be stored in `scheme`, or None."""
    if scheme.weight_bits == 8:
        if in_features <= LARGEST_IN:
            return None
        return ConfigError(
            f"frontend.quantize.type: {name} has {in_features} inputs, 8-bit kernels take up to "
            f"{LARGEST_IN}",
            "leave frontend.quantize out",
        )
    if in_features % group_size == 0:
        return None
    fits = [str(size) for size in GROUPS if in_features % size == 0]
    return ConfigError(
        f"frontend.quantize.group_size: {group_size} does not divide the {in_features} inputs of "
        f"{name}",
        f"write {' or '.join(fits)}" if fits else "write type: w8a16, which has no groups",
    )
