"""Puts the paged, in-place KV cache where a graph concatenates past and new keys and values.

An exporter's graph takes `past` and returns ``present = concat(past, new)``, copying all of it at
every step. Afterwards the function takes the pools, `kv_append` writes the new positions into
them, and `kv_gather` gives the rest of the graph the dense view it was written for, until
`fuse_gqa_attention` reads the pages themselves.

All sequences of a batch become rows of tokens: the batch dimension is bound to 1. The dense view
has ``pages_per_row * 16`` positions, so `past` is bound to that less `seq`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tvm import ir, relax, tirx

from relay_passes.attention_core import attention_core
from relay_passes.base import NUM_CACHES, NUM_INPUT, PassResult
from relay_passes.order import hoisted
from relay_passes.rewriter import (
    Graph,
    View,
    is_call,
    is_straight,
    rebuild,
    replace_main,
    same_dim,
    shape_of,
    simplify,
    static,
)
from schedules.kv_cache import key_cache_shape, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops.kv_append import kv_append
from tvm_vacc.ops.kv_gather import kv_gather
from tvm_vacc.wording import layers_text

WIDE_DTYPE = "bfloat16"
"""As many bytes as fp16, and the range of fp32."""


@dataclass(frozen=True)
class _Layer:
    """The caches of one attention: parameters, what is appended, the concatenations."""

    past_key: relax.Var
    past_value: relax.Var
    new_key: relax.Var
    new_value: relax.Var
    key: relax.Var
    value: relax.Var


@dataclass(frozen=True)
class _Paging:
    """The parameters that a paged function adds."""

    slots: relax.Var
    page_table: relax.Var
    query_start: relax.Var
    kv_lens: relax.Var


@dataclass(frozen=True)
class RewriteKvCache:
    """Matches count the layers; all caches are rewritten, or none.

    Attributes:
        dtype: of the caches: float32, float16, bfloat16 or int8.
        promoted: layers whose keys or values `dtype` may have no numbers for; their caches are of
            `WIDE_DTYPE`.
    """

    dtype: str = "float32"
    promoted: tuple[int, ...] = ()
    name: str = "rewrite_kv_cache"

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the module with paged caches; expects canonical form.

        Not rewritten: caches that disagree, that serve two attentions or something else, that are
        not returned, or whose heads are not known or of no multiple of a page, which the kernels
        need.
        """
        main = module["main"]
        if not is_straight(main) or not main.attrs or NUM_INPUT not in main.attrs:
            return PassResult(module, 0)
        layers = _layers(main)
        symbols = _symbols(main, layers)
        if symbols is None or any(self._odd_width(layer) for layer in layers):
            return PassResult(module, 0)
        batch, seq, past = symbols
        rows, pages_per_row = (tirx.Var(name, "int64") for name in ("rows", "pages_per_row"))
        paging = _Paging(
            slots=relax.Var("slots", relax.TensorType([seq], "int32")),
            page_table=relax.Var("page_table", relax.TensorType([rows, pages_per_row], "int32")),
            query_start=relax.Var("query_start", relax.TensorType([rows + 1], "int32")),
            kv_lens=relax.Var("kv_lens", relax.TensorType([rows], "int32")),
        )
        bound = {past: pages_per_row * PAGE_SIZE - seq}
        if isinstance(batch, tirx.Var):
            bound[batch] = tirx.IntImm("int64", 1)
        main = _with_parameter(main, paging.page_table).bind_symbolic_vars(bound)
        layers = _layers(main)
        paged = replace_main(module, self._paged(main, layers, paging))
        return PassResult(paged, len(layers), self._note())

    def _note(self) -> str:
        if not self.promoted:
            return ""
        layers = layers_text(self.promoted)
        return f"{layers} in {WIDE_DTYPE}, whose keys or values may overflow {self.dtype}"

    def _odd_width(self, layer: _Layer) -> bool:
        _, kv_heads, _, head_dim = (static(dim) for dim in shape_of(layer.past_key))
        return kv_heads is None or head_dim is None or head_dim % PAGE_SIZE != 0

    def _paged(self, main: relax.Function, layers: list[_Layer], paging: _Paging) -> relax.Function:
        pages = tirx.Var("pages", "int64")
        pools: dict[relax.Var, relax.Var] = {}
        for i, layer in enumerate(layers):
            _, kv_heads, _, head_dim = shape_of(layer.past_key)
            dtype = WIDE_DTYPE if i in self.promoted else self.dtype
            for part, param, layout in (
                ("key", layer.past_key, key_cache_shape),
                ("value", layer.past_value, value_cache_shape),
            ):
                shape = layout(pages, int(kv_heads), int(head_dim), dtype)
                ty = relax.TensorType(shape, dtype)
                pools[param] = relax.Var(f"cache.{i}.{part}", ty)
        num_input = int(main.attrs[NUM_INPUT])
        inputs, weights = list(main.params)[:num_input], list(main.params)[num_input:-1]
        kept = [param for param in inputs if param not in pools]
        added = [paging.slots, paging.page_table, paging.query_start, paging.kv_lens]
        inputs = [*kept, *added, *pools.values()]
        presents = {var for layer in layers for var in (layer.key, layer.value)}
        dense: dict[relax.Var, relax.Expr] = {}

        def rule(graph: Graph, expr: relax.Expr) -> relax.Expr | None:
            if not is_call(expr, "concat"):
                return None
            first = graph.value(expr.args[0]).fields[0]
            if first not in pools:
                return None
            if first not in dense:
                layer = next(one for one in layers if first in (one.past_key, one.past_value))
                gathered = _append_and_gather(graph, layer, pools, paging, expr)
                dense[layer.past_key] = relax.TupleGetItem(gathered, 0)
                dense[layer.past_value] = relax.TupleGetItem(gathered, 1)
            return dense[first]

        needs = {layer.key: [layer.new_value] for layer in layers}
        needs |= {layer.value: [layer.new_key] for layer in layers}
        results = _results(main)
        return rebuild(
            hoisted(main, needs),
            rule,
            params=[*inputs, *weights],
            attrs={NUM_INPUT: len(inputs), NUM_CACHES: len(pools)},
            outputs=lambda fields: [
                field for field, old in zip(fields, results, strict=True) if old not in presents
            ],
        )


def _append_and_gather(
    graph: Graph,
    layer: _Layer,
    pools: dict[relax.Var, relax.Var],
    paging: _Paging,
    concat: relax.Call,
) -> relax.Var:
    """Emit both operators; return the tuple of dense keys and values."""

    def tokens_first(var: relax.Var) -> relax.Var:
        return graph.emit(relax.op.permute_dims(graph.renamed.get(var, var), [0, 2, 1, 3]))

    key_BSKD, value_BSKD = tokens_first(layer.new_key), tokens_first(layer.new_value)
    key_pool, value_pool = pools[layer.past_key], pools[layer.past_value]
    written = graph.emit(kv_append(key_pool, value_pool, key_BSKD, value_BSKD, paging.slots))
    caches = [graph.emit(relax.TupleGetItem(written, i)) for i in range(2)]
    shape = relax.ShapeExpr([simplify(dim) for dim in shape_of(concat)])
    return graph.emit(kv_gather(*caches, paging.page_table, shape))


def _layers(main: relax.Function) -> list[_Layer]:
    """Return the attentions whose keys and values are concatenations with an input."""
    view, returned = View.of(main), set(_results(main))

    def past_and_new(var: relax.Expr) -> tuple[relax.Var, relax.Var] | None:
        concat = view.call(var, "concat")
        if concat is None or int(concat.attrs.axis) not in (2, -2) or var not in returned:
            return None
        fields = view.value(concat.args[0]).fields
        return tuple(fields) if len(fields) == 2 and fields[0] in view.inputs else None

    layers = []
    for binding in main.body.blocks[0].bindings:
        core = attention_core(view, binding.value)
        key = past_and_new(core.key) if core else None
        value = past_and_new(core.value) if core else None
        if core and key and value:
            layers.append(_Layer(key[0], value[0], key[1], value[1], core.key, core.value))
    return layers


def _with_parameter(main: relax.Function, param: relax.Var) -> relax.Function:
    """Append `param`, whose symbols the body may then use."""
    params = [*main.params, param]
    return relax.Function(params, main.body, main.ret_ty, main.is_pure, attrs=main.attrs)


def _results(main: relax.Function) -> list[relax.Expr]:
    results = View.of(main).value(main.body.body)
    return list(results.fields) if isinstance(results, relax.Tuple) else [main.body.body]


def _symbols(main: relax.Function, layers: list[_Layer]) -> tuple[Any, Any, Any] | None:
    """Return batch, seq and past where all caches agree and each serves one attention only."""
    caches = [param for layer in layers for param in (layer.past_key, layer.past_value)]
    states = [param for param in View.of(main).inputs if len(shape_of(param)) == 4]
    if not layers or len(set(caches)) != len(caches) or set(caches) != set(states):
        return None
    uses = Counter(
        var
        for binding in main.body.blocks[0].bindings
        for var in relax.analysis.free_vars(binding.value)
    )
    batch, _, past, _ = shape_of(caches[0])
    seq = shape_of(layers[0].new_key)[2]
    agree = all(
        same_dim(shape_of(cache)[0], batch)
        and same_dim(shape_of(cache)[2], past)
        and cache.ty.dtype == "float32"
        and uses[cache] == 1
        for cache in caches
    )
    one_row = isinstance(batch, tirx.Var) or static(batch) == 1
    return (batch, seq, past) if agree and one_row and isinstance(past, tirx.Var) else None
