"""Gives every weight parameter the dtype and layout its kernel reads, without loading one.

What has to be done to a weight is written down in the function attribute ``weights`` (see
`relay_passes.weight_plan`); the compiler then streams the checkpoint through that plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import NUM_INPUT, PassResult
from relay_passes.weight_plan import LINEAR, PLAIN, PackedWeight, with_plan
from schedules.linear_float import packed_shape
from tvm_vacc.ops import embedding, linear, packed_linear, rms_norm


@dataclass(frozen=True)
class PackWeights:
    """Turn `linear` into `packed_linear` and store weights as `dtype`.

    Weights of linears get the layout of `schedules.linear_float`, embedding tables stay row-major;
    both are stored as `dtype`. Biases and norm weights, which cost nothing, are stored as fp32.
    Matches count the linears.

    Attributes:
        dtype: ``float16``, ``bfloat16`` or ``float32``: what the large weights are stored as.
    """

    dtype: str
    name: str = field(default="pack_weights", init=False)

    def apply(self, module: ir.IRModule) -> PassResult:
        """Rewrite ``main``: the parameters after its inputs become the packed weights."""
        function = module["main"]
        inputs = int(function.attrs[NUM_INPUT])
        packer = _Packer(function, self.dtype)
        body = _without_dead_code(packer.visit_expr(function.body))
        for param in relax.analysis.free_vars(body):
            if param in function.params[inputs:]:
                packer.keep(param)
        params = [*function.params[:inputs], *packer.params.values()]
        attrs = with_plan(function.attrs, packer.params)
        result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
        result["main"] = relax.Function(
            params, body, function.ret_ty, function.is_pure, attrs, function.span
        )
        return PassResult(relax.transform.Normalize()(result), packer.linears)


def _without_dead_code(body: relax.Expr) -> relax.Expr:
    """Drop what nobody reads any more: the transposes that packing has taken over."""
    free = relax.analysis.free_vars(body)
    return relax.analysis.remove_all_unused(relax.Function(free, body)).body


@mutator
class _Packer(PyExprMutator):
    """Swaps the weight arguments of our operators for packed parameters."""

    def __init__(self, function: relax.Function, dtype: str) -> None:
        super().__init__()
        self.values = relax.analysis.get_var2val(function)
        self.weights = set(function.params)
        self.dtype = dtype
        self.params: dict[PackedWeight, relax.Var] = {}
        self.linears = 0

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op == linear.op:
            return self._pack_linear(call)
        if call.op == embedding.op:
            table = self._plain(call.args[0], self.dtype)
            return relax.Call(call.op, [table, call.args[1]], call.attrs)
        if call.op == rms_norm.op:
            weight = self._plain(call.args[1], "float32")
            return relax.Call(call.op, [call.args[0], weight], call.attrs)
        return call

    def keep(self, param: relax.Var) -> None:
        """Keep a parameter that other operators read, as it is."""
        shape = tuple(int(dim) for dim in param.ty.shape)
        name = param.name
        self.params[PackedWeight(name, name, PLAIN, False, shape, str(param.ty.dtype))] = param

    def _pack_linear(self, call: relax.Call) -> relax.Expr:
        x, weight, *bias = call.args
        source = self._source(weight)
        if source is None:  # a weight that the graph computes: nothing to pack beforehand
            return call
        self.linears += 1
        param, transposed = source
        out_features, in_features = (int(dim) for dim in weight.ty.shape)
        packed = PackedWeight(
            name=f"{param.name}.{LINEAR}",
            source=param.name,
            layout=LINEAR,
            transposed=transposed,
            shape=packed_shape(out_features, in_features),
            dtype=self.dtype,
        )
        biases = [self._plain(item, "float32") for item in bias]
        return packed_linear(x, self._parameter(packed), *biases, out_features=out_features)

    def _plain(self, expr: relax.Expr, dtype: str) -> relax.Expr:
        if expr not in self.weights:
            return expr
        shape = tuple(int(dim) for dim in expr.ty.shape)
        name = expr.name
        return self._parameter(PackedWeight(name, name, PLAIN, False, shape, dtype))

    def _parameter(self, weight: PackedWeight) -> relax.Var:
        if weight not in self.params:
            self.params[weight] = weight.parameter()
        return self.params[weight]

    def _source(self, expr: relax.Expr) -> tuple[relax.Var, bool] | None:
        """Return the parameter that `expr` is, and whether it is its transpose."""
        transposed = False
        while expr not in self.weights:
            value = self.values.get(expr) if isinstance(expr, relax.Var) else expr
            if value is None:
                return None
            if isinstance(value, relax.Call) and value.op == ir.Op.get("relax.permute_dims"):
                transposed = not transposed
                expr = value.args[0]
            elif isinstance(value, relax.Var):
                expr = value
            else:
                return None
        return expr, transposed
