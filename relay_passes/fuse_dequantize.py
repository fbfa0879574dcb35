"""Makes `quantized_linear` of products with a weight that the model holds as codes.

What models in ONNX's QDQ form hold round their linears: ``matmul(x, dequantize(codes))``. Where
``x`` is dequantised too, the product is one of integers: w8a8 with the model's own scale of
activations. What does not fit is left, and computed in floats.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tvm import ir, relax

from relay_passes.base import PassResult
from relay_passes.fuse_linear import with_bias
from relay_passes.layout import axes_of
from relay_passes.rewriter import Graph, is_call, is_straight, rebuild, shape_of, static
from relay_passes.weight_plan import CODES, MadeTensor, PackedWeight, Quantized, Source, read_plan
from relay_passes.weights import head_of, replace_weights, weights_read, without_dead_code
from schedules import linear_int8_codes
from schedules.linear_int4 import GROUPS
from schedules.linear_int8 import LARGEST_IN
from tvm_vacc.ops import quantized_linear
from tvm_vacc.ops.quantized_linear import CODES_ARGUMENTS, split_arguments
from tvm_vacc.quantize.scheme import STORED, W4A16, W8A8, W8A16

UNPACKED = "it has zero points, not 4 bits, or blocks that do not divide its inputs"
"""Why the graph unpacks a matrix, and not whoever reads the file."""


@dataclass(frozen=True)
class FuseDequantize:
    """Turn products with dequantised weights into `quantized_linear`; matches count them."""

    name: str = field(default="fuse_dequantize", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``; expects canonical form.

        The note of the result names the weights that stay dequantised, with the reason.
        """
        main = module["main"]
        if not is_straight(main):
            return PassResult(module, 0)
        fusion = _Fusion()
        fused = rebuild(main, fusion.product)
        if not fusion.plan:
            return PassResult(module, 0, fusion.note)
        fused = rebuild(fused, _bias)
        body = without_dead_code(fused.body)
        made = [*weights_read(main, body), *fusion.params.values()]
        plan = [*read_plan(main), *fusion.entries(fused)]
        return PassResult(replace_weights(module, body, made, plan), fusion.matches, fusion.note)


@dataclass(frozen=True)
class _Codes:
    """A dequantised matrix ``[out, in]`` that the kernels can take.

    Attributes:
        weight: the codes.
        scale: the scales.
        bits: of a code.
        group_size: inputs that share a scale.
    """

    weight: Source
    scale: Source
    shape: tuple[int, int]
    bits: int
    group_size: int


class _Fusion:
    """The rule, what it has made, and what it has left."""

    def __init__(self) -> None:
        self.params: dict[str, relax.Var] = {}
        self.plan: dict[str, PackedWeight] = {}
        self.left: dict[str, str] = {}
        self.matches = 0

    @property
    def note(self) -> str:
        """Which weights are left to floats, and why."""
        if not self.left:
            return ""
        listed = "; ".join(f"{name} ({reason})" for name, reason in self.left.items())
        return f"dequantised to floats: {listed}"

    def product(self, graph: Graph, expr: relax.Expr) -> relax.Expr | None:
        """Return what a product with stored codes is, or None."""
        if not is_call(expr, "matmul") or expr.ty.dtype != "float32" or len(shape_of(expr)) < 1:
            return None
        x, matrix = expr.args
        transpose = graph.call(matrix, "permute_dims")
        if transpose is not None and axes_of(transpose) != [1, 0]:
            return None
        is_transposed = transpose is not None
        stored = matrix if transpose is None else transpose.args[0]
        source = graph.call(stored, "tvm_vacc.dequantize")
        if source is None:
            return None
        if not _is_parameter(graph, source.args[0]):
            packed = _packed(graph, source.args[0])
            if packed is not None:
                self.left[packed.name] = UNPACKED
            return None
        codes = _read_codes(graph, source, out_axis=0 if is_transposed else 1)
        if isinstance(codes, str):
            self.left[source.args[0].name] = codes
            return None
        of_x = _codes_of_activations(graph, x) if codes.bits == 8 else None
        scheme = (W8A16 if of_x is None else W8A8) if codes.bits == 8 else W4A16
        self.matches += 1
        weight = self._parameters(codes, scheme.name)
        attrs = {"scheme": scheme.name, "group_size": codes.group_size}
        if of_x is None:
            return quantized_linear(x, *weight, **attrs)
        x, *scale_and_zero = of_x
        return quantized_linear(x, *weight, *map(graph.emit, scale_and_zero), **attrs)

    def entries(self, function: relax.Function) -> list[PackedWeight]:
        """Return what was made, the one of the head of `function` called so."""
        head = head_of(function)
        name = "" if head is None else head.args[1].name
        return [
            replace(entry, kind="head") if entry.tensors[0].name == name else entry
            for entry in self.plan.values()
        ]

    def _parameters(self, codes: _Codes, scheme: str) -> list[relax.Var]:
        out_features, in_features = codes.shape
        stem = f"{codes.weight.name}.{scheme}"
        groups = in_features // codes.group_size
        entry = PackedWeight(
            kind="linear",
            sources=(codes.weight,),
            layout=CODES,
            tensors=(
                MadeTensor(f"{stem}.codes", (out_features, in_features), "int8"),
                MadeTensor(f"{stem}.scales", (out_features, groups), "float32"),
            ),
            quantized=Quantized(STORED, scheme, codes.group_size),
            scales=(codes.scale,),
        )
        self.plan[stem] = entry
        for tensor in entry.tensors:
            self.params.setdefault(tensor.name, tensor.parameter())
        return [self.params[tensor.name] for tensor in entry.tensors]


def _bias(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
    def without(call: relax.Call) -> bool:
        return not split_arguments(call, CODES_ARGUMENTS)[1]

    return with_bias(graph, expr, quantized_linear, without)


def _is_parameter(graph: Graph, expr: relax.Expr) -> bool:
    return isinstance(expr, relax.Var) and graph.is_weight(expr) and len(shape_of(expr)) == 2


def _packed(graph: Graph, codes: relax.Expr) -> relax.Var | None:
    """Return the weight that the graph unpacks `codes` from, None where it is no weight."""
    while not (isinstance(codes, relax.Var) and graph.is_weight(codes)):
        value = graph.value(codes)
        if isinstance(value, relax.Call) and value.args:
            codes = value.args[0]
        elif isinstance(value, relax.Tuple):
            codes = value.fields[0]
        else:
            return None
    return codes


def _read_codes(graph: Graph, call: relax.Call, out_axis: int) -> _Codes | str:
    """Return the codes that `call` dequantises, or why the kernels do not take them."""
    weight, scale, *zero_point = call.args
    shape = tuple(int(dim) for dim in shape_of(weight))
    out_features, in_features = shape[out_axis], shape[1 - out_axis]
    axis, block = int(call.attrs["axis"]), int(call.attrs["block_size"])
    if weight.ty.dtype != "int8":
        return f"codes are {weight.ty.dtype}"
    if zero_point and not _is_zero(graph, zero_point[0]):
        return "it has zero points"
    if not isinstance(scale, relax.Var) or not graph.is_weight(scale):
        return "its scales do not stand in the file"
    if in_features > LARGEST_IN:
        return f"{in_features} inputs, kernels take up to {LARGEST_IN}"
    bits, group_size = 8, in_features
    if (
        block
        and axis != out_axis
        and block >= in_features
        and not _fits_four_bits(call, in_features)
    ):
        pass  # one block: a scale an output channel
    elif block:
        if axis == out_axis or not _fits_four_bits(call, in_features):
            return f"{call.attrs['bits']} bits in blocks of {block} along axis {axis}"
        bits, group_size = W4A16.weight_bits, block
    elif len(shape_of(scale)) == 1 and int(shape_of(scale)[0]) > 1 and axis != out_axis:
        return "scales along its inputs"
    return _Codes(
        weight=Source(weight.name, transposed=out_axis == 1),
        scale=Source(scale.name, transposed=bool(block) and out_axis == 1),
        shape=(out_features, in_features),
        bits=bits,
        group_size=group_size,
    )


def _fits_four_bits(call: relax.Call, in_features: int) -> bool:
    block = int(call.attrs["block_size"])
    narrow = int(call.attrs["bits"]) <= W4A16.weight_bits
    return narrow and block in GROUPS and in_features % block == 0


def _codes_of_activations(graph: Graph, x: relax.Expr) -> list[relax.Expr] | None:
    """Return the codes of dequantised activations, their scale and zero point ``[1]``, or None."""
    call = graph.call(x, "tvm_vacc.dequantize")
    if call is None or str(call.args[0].ty.dtype) not in linear_int8_codes.CODES:
        return None
    codes, scale, *zero_point = call.args
    if any(static(dim) != 1 for arg in call.args[1:] for dim in shape_of(arg)):
        return None
    if int(call.attrs["block_size"]) or scale.ty.dtype != "float32":
        return None
    if not zero_point:
        return [codes, _vector(scale), relax.const(np.zeros(1, np.int32))]
    zero = graph.emit(relax.op.astype(zero_point[0], "int32"))
    return [codes, _vector(scale), _vector(zero)]


def _vector(scalar: relax.Expr) -> relax.Expr:
    return relax.op.reshape(scalar, [1])


def _is_zero(graph: Graph, zero_point: relax.Expr) -> bool:
    value = graph.value(zero_point)
    return isinstance(value, ir.GenericConst) and not value.value.numpy().any()
