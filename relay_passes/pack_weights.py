"""Gives every weight parameter the dtype and layout its kernel reads, without loading one.

What has to be done to a weight is written down in the function attribute ``weights`` (see
`relay_passes.weight_plan`); the compiler then streams the checkpoint through that plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import PassResult
from relay_passes.rewriter import with_span
from relay_passes.weight_plan import (
    LINEAR,
    LINEAR_INT4,
    LINEAR_INT8,
    LINEAR_INT8_SUMS,
    PLAIN,
    Kind,
    MadeTensor,
    PackedWeight,
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
from schedules import linear_float, linear_int4, linear_int8
from tvm_vacc.ops import (
    embedding,
    linear,
    packed_linear,
    packed_quantized_linear,
    quantized_linear,
    rms_norm,
    widen,
)
from tvm_vacc.ops.quantized_linear import CODES_ARGUMENTS, split_arguments
from tvm_vacc.quantize.scheme import SCHEMES


@dataclass(frozen=True)
class PackWeights:
    """Turn `linear` into `packed_linear`, `quantized_linear` into `packed_quantized_linear`.

    Weights of linears get the layout that their kernels name, embedding tables stay row-major;
    those that are not quantised are stored as `dtype`, what `widen` reads as its argument. Biases
    and norm weights, which cost nothing, are stored as fp32. Matches count the linears of both
    kinds.

    Attributes:
        dtype: ``float16``, ``bfloat16`` or ``float32``: what embedding tables are stored as.
        linears: the same for the weights of linears; empty: as `dtype`.
        products: ``bf16`` or ``fp32``: what `packed_linear` multiplies in, where it can choose.
    """

    dtype: str
    products: str = "bf16"
    linears: str = ""
    name: str = field(default="pack_weights", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``: the parameters after its inputs become the packed weights."""
        main = module["main"]
        packer = _Packer(main, self.dtype, self.products, self.linears or self.dtype)
        body = without_dead_code(packer.visit_expr(main.body))
        for param in weights_read(main, body):
            packer.keep(param)
        module = replace_weights(module, body, packer.parameters, packer.plan)
        return PassResult(module, packer.linears)


@mutator
class _Packer(PyExprMutator):
    """Swaps the weight arguments of our operators for packed parameters."""

    def __init__(self, function: relax.Function, dtype: str, products: str, linears: str) -> None:
        super().__init__()
        self.weights = StoredWeights.of(function)
        self.head = head_of(function)
        self.dtype = dtype
        self.products = products
        self.linear_dtype = linears
        self.noted = {
            tensor.name: entry for entry in read_plan(function) for tensor in entry.tensors
        }
        self.plan: dict[PackedWeight, list[relax.Var]] = {}
        self.linears = 0

    @property
    def parameters(self) -> list[relax.Var]:
        """The weights of the new function, in the order of the plan."""
        return [param for params in self.plan.values() for param in params]

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        is_head = self.head is not None and call.same_as(self.head)
        call = self.visit_expr_post_order(call)
        return with_span(self._packed(call, is_head), call.span)

    def _packed(self, call: relax.Call, is_head: bool) -> relax.Expr:
        if call.op == linear.op:
            return self._pack_linear(call, "head" if is_head else "linear")
        if call.op == quantized_linear.op:
            return self._pack_quantized(call)
        if call.op == embedding.op and len(call.args) == 2:
            table = self._plain(call.args[0], self.dtype, "embedding")
            return relax.Call(call.op, [table, call.args[1]], call.attrs)
        if call.op == rms_norm.op:
            weight = self._plain(call.args[1], "float32")
            return relax.Call(call.op, [call.args[0], weight], call.attrs)
        if call.op == widen.op:
            weight = self._plain(call.args[0], str(call.args[0].ty.dtype))
            return relax.Call(call.op, [weight], call.attrs)
        return call

    def keep(self, param: relax.Var) -> None:
        """Keep a parameter that other operators read, as it is, or as it was noted."""
        entry = self.noted.get(param.name)
        if entry is None:
            shape = tuple(int(dim) for dim in param.ty.shape)
            made = MadeTensor(param.name, shape, str(param.ty.dtype))
            entry = PackedWeight("other", (Source(param.name),), PLAIN, (made,))
        names = [tensor.name for tensor in entry.tensors]
        self._add(entry)[names.index(param.name)] = param

    def _pack_linear(self, call: relax.Call, kind: Kind) -> relax.Expr:
        x, weight, *bias = call.args
        sources = self.weights.sources(weight)
        if sources is None:  # a weight that the graph computes: nothing to pack beforehand
            return call
        self.linears += 1
        out_features, in_features = (int(dim) for dim in weight.ty.shape)
        shape = linear_float.packed_shape(out_features, in_features)
        made = MadeTensor(f"{_joined(sources)}.{LINEAR}", shape, self.linear_dtype)
        [packed] = self._add(PackedWeight(kind, sources, LINEAR, (made,)))
        return packed_linear(
            x,
            packed,
            *self._biases(bias),
            out_features=out_features,
            products=self.products,
        )

    def _pack_quantized(self, call: relax.Call) -> relax.Expr:
        x, codes = call.args[:2]
        of_x, bias = split_arguments(call, CODES_ARGUMENTS)
        entry = self.noted.get(codes.name) if isinstance(codes, relax.Var) else None
        if entry is None or entry.quantized is None:  # codes that the graph computes
            return call
        self.linears += 1
        out_features, in_features = (int(dim) for dim in codes.ty.shape)
        scheme, group_size = call.attrs["scheme"], int(call.attrs["group_size"])
        stem = f"{entry.name}.{scheme}"
        if SCHEMES[scheme].weight_bits == 8:
            layout = LINEAR_INT8
            shape = linear_int8.packed_shape(out_features, in_features)
            packed_codes = MadeTensor(f"{stem}.{layout}", shape, linear_int8.PACKED_DTYPE)
            packed_scales = MadeTensor(f"{stem}.scales", (out_features,), "float32")
            made = [packed_codes, packed_scales]
            if of_x:
                layout = LINEAR_INT8_SUMS
                made.append(MadeTensor(f"{stem}.sums", (out_features,), "int32"))
        else:
            layout = LINEAR_INT4
            shape, scale_shape = linear_int4.packed_shapes(out_features, in_features, group_size)
            packed_codes = MadeTensor(f"{stem}.{layout}", shape, linear_int4.PACKED_DTYPE)
            packed_scales = MadeTensor(f"{stem}.scales", scale_shape, linear_int4.SCALE_DTYPE)
            made = [packed_codes, packed_scales]
        weight, scale, *sums = self._add(replace(entry, layout=layout, tensors=tuple(made)))
        return packed_quantized_linear(
            x,
            weight,
            scale,
            *of_x,
            *sums,
            *self._biases(bias),
            scheme=scheme,
            group_size=group_size,
            out_features=out_features,
        )

    def _biases(self, bias: list[relax.Expr]) -> list[relax.Expr]:
        return [self._plain(item, "float32") for item in bias]

    def _plain(self, expr: relax.Expr, dtype: str, kind: Kind = "other") -> relax.Expr:
        sources = self.weights.sources(expr)
        if sources is None or any(source.transposed for source in sources):
            return expr
        shape = tuple(int(dim) for dim in expr.ty.shape)
        made = MadeTensor(_joined(sources), shape, dtype)
        [param] = self._add(PackedWeight(kind, sources, PLAIN, (made,)))
        return param

    def _add(self, entry: PackedWeight) -> list[relax.Var]:
        """Add `entry` to the plan, once, and return its parameters."""
        if entry not in self.plan:
            self.plan[entry] = [tensor.parameter() for tensor in entry.tensors]
        return self.plan[entry]


def _joined(sources: tuple[Source, ...]) -> str:
    return "+".join(source.name for source in sources)
