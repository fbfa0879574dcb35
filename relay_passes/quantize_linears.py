"""Makes `quantized_linear` of `linear`, and notes how its codes and scales come about.

One pass for 8 and 4 bits. No weight is read: the codes and scales are fresh parameters, and the
plan (`relay_passes.weight_plan`) says of which tensors a quantiser makes them. Round to nearest,
GPTQ and "as the checkpoint stores them" differ in that note alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import PassResult
from relay_passes.rewriter import with_span
from relay_passes.weight_plan import (
    CODES,
    MadeTensor,
    PackedWeight,
    Quantized,
    Source,
    read_plan,
)
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
from tvm_vacc.ops import linear, quantized_linear, swiglu
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST, SCHEMES, W8A8, W8A16, Scheme

SMALL = 4
"""Linears with so many times fewer outputs than inputs take next to no time."""

_WITH_FLOATS = {W8A8.name: W8A16.name}
"""Schemes of activations in 8 bits, and those with the same codes and scales and float ones."""


@dataclass(frozen=True)
class StoredMatrix:
    """A parameter of ``main`` whose values exist as int8 codes; the plan's sources have its name.

    Attributes:
        name: of the parameter.
        scales: where its scales are.
        group_size: inputs that share a scale.
    """

    name: str
    scales: Source
    group_size: int


@dataclass(frozen=True)
class QuantizeLinears:
    """Turn every `linear` by a stored weight into `quantized_linear`; matches count them.

    Attributes:
        scheme: a key of `SCHEMES`.
        quantizer: what chooses the codes, as the plan names it.
        group_size: inputs that share a scale, where the scheme has groups.
        head: scheme of the linear whose result ``main`` returns first, the head of a language
            model; None leaves it as it is.
        stored: the matrices whose codes exist already. Where there are any, no other becomes
            codes of `scheme`, and the head, if it is not one of them, is rounded to nearest.
        spares_activations: where `scheme` is w8a8, linears become w8a16 that lose most by
            activations of 8 bits (behind `swiglu`, whose products have heavy tails) and those that
            are too small to gain much (keys and values of GQA). On the demo this lowers the mean
            KL divergence from 6.4e-4 to 1.9e-4, twice that of w8a16; SmoothQuant (Xiao et al.,
            2023) to 5.8e-4 at best, and groups of 32 activations a scale to 2.1e-4.
    """

    scheme: str
    quantizer: str
    group_size: int
    head: str | None
    stored: tuple[StoredMatrix, ...] = ()
    spares_activations: bool = False
    name: str = field(default="quantize_linears", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``: made parameters stand after those that it keeps.

        Raises:
            ConfigError: a weight has a number of inputs that the scheme cannot take, or stands in
            the graph itself, or the model holds codes of all of them already.
        """
        main = module["main"]
        rewriter = _Quantizer(main, self)
        body = rewriter.visit_expr(main.body)
        if rewriter.refusals:
            raise rewriter.refusals[0]
        if read_plan(main) and not rewriter.matches:
            raise ConfigError(
                "frontend.quantize.type asks for codes to be made, and the model holds codes of "
                "its linears already",
                "leave the type out, or give the model that is not quantised",
            )
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
        self.stored = {matrix.name: matrix for matrix in options.stored}
        self.plan: dict[str, PackedWeight] = {}
        self.params: dict[str, relax.Var] = {}
        self.refusals: list[ConfigError] = []  # one raised on the way would pass through C++
        self.matches = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_head = self.head is not None and call.same_as(self.head)
        call = self.visit_expr_post_order(call)
        return with_span(self._quantized_call(call, is_head), call.span)

    def _quantized_call(self, call: relax.Call, is_head: bool) -> relax.Expr:
        if call.op != linear.op:
            return call
        x, weight, *bias = call.args
        sources = self.weights.sources(weight)
        if sources is None:
            if self._scheme(is_head) is not None and self.weights.is_constant(weight):
                self.refusals.append(_inline(weight))
            return call
        out_features, in_features = (int(dim) for dim in weight.ty.shape)
        stored = self._stored(sources)
        how = self._quantized(stored, is_head, in_features)
        if how is not None and not stored and self._spares(x, out_features, in_features):
            how = replace(how, scheme=_WITH_FLOATS.get(how.scheme, how.scheme))
        if how is None:
            return call
        name = "+".join(source.name for source in sources)
        if problem := refusal(SCHEMES[how.scheme], name, in_features, how.group_size):
            self.refusals.append(problem)
            return call
        self.matches += 1
        groups = SCHEMES[how.scheme].groups(in_features, how.group_size)
        entry = PackedWeight(
            kind="head" if is_head else "linear",
            sources=sources,
            layout=CODES,
            tensors=(
                MadeTensor(f"{name}.{how.scheme}.codes", (out_features, in_features), "int8"),
                MadeTensor(f"{name}.{how.scheme}.scales", (out_features, groups), "float32"),
            ),
            quantized=how,
            scales=tuple(matrix.scales for matrix in stored),
        )
        codes, scales = self._parameters(entry)
        attrs = {"scheme": how.scheme, "group_size": how.group_size}
        return quantized_linear(x, codes, scales, *bias, **attrs)

    def _spares(self, x: relax.Expr, out_features: int, in_features: int) -> bool:
        """Whether the activations `x` of a linear stay as they are."""
        source = self.lookup_binding(x) if isinstance(x, relax.Var) else x
        is_product = isinstance(source, relax.Call) and source.op == swiglu.op
        is_small = SMALL * out_features <= in_features
        return self.options.spares_activations and (is_product or is_small)

    def _scheme(self, is_head: bool) -> str | None:
        return self.options.head if is_head else self.options.scheme

    def _stored(self, sources: tuple[Source, ...]) -> tuple[StoredMatrix, ...]:
        """Return the codes that `sources` are stored as; empty where one of them is not."""
        names = [source.name for source in sources if not source.transposed]
        found = tuple(self.stored[name] for name in names if name in self.stored)
        alike = len({matrix.group_size for matrix in found}) == 1
        return found if len(found) == len(sources) and alike else ()

    def _quantized(
        self, stored: tuple[StoredMatrix, ...], is_head: bool, in_features: int
    ) -> Quantized | None:
        """Return how a matrix becomes codes, or None."""
        options = self.options
        if stored:
            return Quantized(options.quantizer, options.scheme, stored[0].group_size)
        scheme = self._scheme(is_head)
        if scheme is None or (self.stored and not is_head):
            return None
        group_size = in_features if SCHEMES[scheme].weight_bits == 8 else options.group_size
        quantizer = ROUND_TO_NEAREST if self.stored else options.quantizer
        return Quantized(quantizer, scheme, group_size)

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


def refusal(scheme: Scheme, name: str, in_features: int, group_size: int) -> ConfigError | None:
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
