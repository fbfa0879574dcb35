"""A GLM as the fusion passes leave it, built by hand: what the later passes start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import ir, relax, tirx

from schedules.kv_cache import key_cache_shape, value_cache_shape
from tvm_vacc import ops
from tvm_vacc.model_spec import ModelSpec


@dataclass
class FusedGlm:
    """Emits ``main`` for `spec`, caches of `cache_dtype`, weights of `weight_dtype`."""

    spec: ModelSpec
    cache_dtype: str = "float32"
    weight_dtype: str = "float32"

    def build(self) -> ir.IRModule:
        spec = self.spec
        seq, rows, pages = (tirx.Var(name, "int64") for name in ("seq", "rows", "pages"))
        per_row = tirx.Var("pages_per_row", "int64")
        self.builder = relax.BlockBuilder()
        inputs = [
            _var("input_ids", (1, seq), "int64"),
            _var("position_ids", (1, seq), "int64"),
            _var("slots", (seq,), "int32"),
            _var("page_table", (rows, per_row), "int32"),
            _var("query_start", (rows + 1,), "int32"),
            _var("kv_lens", (rows,), "int32"),
        ]
        cache_dims = spec.kv_heads, spec.head_dim
        caches = [
            _var(
                f"cache.{layer}.{kind}",
                shape(pages, *cache_dims, self.cache_dtype),
                self.cache_dtype,
            )
            for layer in range(spec.layers)
            for kind, shape in (("key", key_cache_shape), ("value", value_cache_shape))
        ]
        self.weights: dict[str, relax.Var] = {}
        self.inputs, self.caches, self.seq = inputs, caches, seq
        self._declare_weights()
        attrs = {"num_input": len(inputs) + len(caches), "num_caches": len(caches)}
        params = [*inputs, *caches, *self.weights.values()]
        with self.builder.function("main", params, attrs=attrs):
            with self.builder.dataflow():
                logits = self.builder.emit_output(self._logits())
            self.builder.emit_func_output(logits)
        return self.builder.get()

    def _declare_weights(self) -> None:
        spec = self.spec
        q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (spec.vocab, spec.hidden)
        }
        for layer in range(spec.layers):
            at = f"model.layers.{layer}."
            shapes[at + "input_layernorm.weight"] = (spec.hidden,)
            for name, size in (("q", q), ("k", kv), ("v", kv)):
                shapes[f"{at}self_attn.{name}_proj.weight"] = (size, spec.hidden)
                shapes[f"{at}self_attn.{name}_proj.bias"] = (size,)
            shapes[at + "self_attn.o_proj.weight"] = (spec.hidden, q)
            shapes[at + "post_attention_layernorm.weight"] = (spec.hidden,)
            shapes[at + "mlp.gate_up_proj.weight"] = (2 * spec.intermediate, spec.hidden)
            shapes[at + "mlp.down_proj.weight"] = (spec.hidden, spec.intermediate)
        shapes["model.norm.weight"] = (spec.hidden,)
        shapes["lm_head.weight"] = (spec.vocab, spec.hidden)
        self.weights = {name: _var(name, s, self.weight_dtype) for name, s in shapes.items()}

    def _logits(self) -> relax.Expr:
        ids, positions = self.inputs[:2]
        x = self._emit(ops.embedding(self.weights["model.embed_tokens.weight"], ids))
        cos, sin = self._cos_sin(positions)
        for layer in range(self.spec.layers):
            x = self._layer(layer, x, cos, sin)
        x = self._norm("model.norm", x)
        return ops.linear(x, self.weights["lm_head.weight"])

    def _cos_sin(self, positions: relax.Expr) -> tuple[relax.Expr, relax.Expr]:
        pairs = self.spec.rotary_dim // 2
        frequencies = [
            self.spec.rope_theta ** (-2.0 * r / self.spec.rotary_dim) for r in range(pairs)
        ]
        table = relax.const(np.array(frequencies, np.float32).reshape(1, 1, pairs))
        position = self._emit(relax.op.astype(positions, "float32"))
        position = self._emit(relax.op.expand_dims(position, 2))
        angle = self._emit(relax.op.multiply(position, table))
        return self._emit(relax.op.cos(angle)), self._emit(relax.op.sin(angle))

    def _layer(self, layer: int, x: relax.Expr, cos: relax.Expr, sin: relax.Expr) -> relax.Expr:
        spec, at = self.spec, f"model.layers.{layer}."
        normed = self._norm(at + "input_layernorm", x)
        q = self._heads(at + "self_attn.q_proj", normed, spec.heads)
        k = self._heads(at + "self_attn.k_proj", normed, spec.kv_heads)
        v = self._heads(at + "self_attn.v_proj", normed, spec.kv_heads)
        q, k = (self._emit(ops.rope(item, cos, sin)) for item in (q, k))
        slots, page_table, query_start, kv_lens = self.inputs[2:]
        key_cache, value_cache = self.caches[2 * layer : 2 * layer + 2]
        both = self._emit(ops.kv_append(key_cache, value_cache, k, v, slots))
        keys, values = (self._emit(relax.TupleGetItem(both, index)) for index in range(2))
        attended = self._emit(
            ops.gqa_attention(
                q,
                keys,
                values,
                page_table,
                query_start,
                kv_lens,
                scale=spec.head_dim**-0.5,
                products="bf16",
            )
        )
        attended = self._emit(relax.op.reshape(attended, [1, self.seq, spec.heads * spec.head_dim]))
        x = self._emit(relax.op.add(x, self._linear(at + "self_attn.o_proj", attended)))
        normed = self._norm(at + "post_attention_layernorm", x)
        gated = self._emit(ops.swiglu(self._linear(at + "mlp.gate_up_proj", normed)))
        return self._emit(relax.op.add(x, self._linear(at + "mlp.down_proj", gated)))

    def _heads(self, name: str, x: relax.Expr, heads: int) -> relax.Expr:
        out = self._linear(name, x)
        return self._emit(relax.op.reshape(out, [1, self.seq, heads, self.spec.head_dim]))

    def _linear(self, name: str, x: relax.Expr) -> relax.Expr:
        bias = [self.weights[f"{name}.bias"]] if f"{name}.bias" in self.weights else []
        return self._emit(ops.linear(x, self.weights[f"{name}.weight"], *bias))

    def _norm(self, name: str, x: relax.Expr) -> relax.Expr:
        weight = self.weights[f"{name}.weight"]
        return self._emit(ops.rms_norm(x, weight, eps=self.spec.rms_norm_eps))

    def _emit(self, expr: relax.Expr) -> relax.Var:
        return self.builder.emit(expr)


def _var(name: str, shape: tuple[object, ...], dtype: str) -> relax.Var:
    return relax.Var(name, relax.TensorType(shape, dtype))


def tiny_spec() -> ModelSpec:
    """Two layers, GQA ratio 2, rotary on half of each head."""
    return ModelSpec(
        layers=2,
        hidden=64,
        heads=4,
        kv_heads=2,
        head_dim=32,
        rotary_dim=16,
        rope_theta=5e6,
        intermediate=96,
        vocab=300,
        rms_norm_eps=1.5625e-07,
        max_positions=2048,
        qkv_bias=True,
        tie_word_embeddings=False,
        eos_token_ids=(297, 298, 299),
        bos_token_id=None,
        pad_token_id=297,
        architecture="glm",
        dtype="float32",
    )
