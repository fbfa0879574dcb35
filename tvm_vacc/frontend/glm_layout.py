"""The `glm` layout: what transformers' GlmForCausalLM saves (glm-4-9b-hf, glm-4-9b-chat-hf).

Its tensor names are the names of the whole project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.model_spec import ModelSpec

EMBEDDING = "model.embed_tokens.weight"

HEAD = "lm_head.weight"

IGNORED = frozenset({"model.rotary_emb.inv_freq"})
"""Buffers of old checkpoints that the config determines."""

_DEFAULT_PARTIAL_ROTARY_FACTOR = 0.5
"""GlmConfig's own default: the first releases of glm-4-9b-hf have no such key."""


def read_glm_config(config: ConfigReader) -> dict[str, Any]:
    """Return the fields of ModelSpec that config.json determines.

    Raises:
        CheckpointError: a key is missing, ill-typed, or asks for what GLM-4 does not have.
    """
    config.require("hidden_act", ("silu", "swish"), absent="silu")
    config.require("rope_scaling", (None,), absent=None)
    rope = config
    if config.has("rope_parameters"):  # where transformers 5 puts what stood at the top before
        rope = config.section("rope_parameters")
        rope.require("rope_type", ("default",), absent="default")
        for key in ("rope_theta", "partial_rotary_factor"):
            if config.has(key) and rope.has(key) and config.number(key) != rope.number(key):
                raise config.fault(key, f"{rope.number(key)}, as rope_parameters says")
    rotary_owner = rope if rope.has("partial_rotary_factor") else config
    partial = (
        rotary_owner.number("partial_rotary_factor")
        if rotary_owner.has("partial_rotary_factor")
        else _DEFAULT_PARTIAL_ROTARY_FACTOR
    )
    head_dim = config.integer("head_dim")
    if not 0 < partial <= 1:
        raise rotary_owner.fault("partial_rotary_factor", "above 0 and at most 1")
    return {
        "layers": config.integer("num_hidden_layers"),
        "hidden": config.integer("hidden_size"),
        "heads": config.integer("num_attention_heads"),
        "kv_heads": config.integer("num_key_value_heads"),
        "head_dim": head_dim,
        "rotary_dim": int(head_dim * partial),
        "rope_theta": (rope if rope.has("rope_theta") else config).number("rope_theta"),
        "intermediate": config.integer("intermediate_size"),
        "vocab": config.integer("vocab_size"),
        "rms_norm_eps": config.number("rms_norm_eps"),
        "max_positions": config.integer("max_position_embeddings"),
        "qkv_bias": config.boolean("attention_bias"),
        "tie_word_embeddings": config.has("tie_word_embeddings")
        and config.boolean("tie_word_embeddings"),
    }


def tensor_shapes(spec: ModelSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of the model; linear weights are `[out, in]`."""
    query, key_value = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    yield EMBEDDING, (spec.vocab, spec.hidden)
    for i in range(spec.layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (spec.hidden,)
        for projection, rows in (("q_proj", query), ("k_proj", key_value), ("v_proj", key_value)):
            yield f"{layer}.self_attn.{projection}.weight", (rows, spec.hidden)
            if spec.qkv_bias:
                yield f"{layer}.self_attn.{projection}.bias", (rows,)
        yield f"{layer}.self_attn.o_proj.weight", (spec.hidden, query)
        yield f"{layer}.post_attention_layernorm.weight", (spec.hidden,)
        yield f"{layer}.mlp.gate_up_proj.weight", (2 * spec.intermediate, spec.hidden)
        yield f"{layer}.mlp.down_proj.weight", (spec.hidden, spec.intermediate)
    yield "model.norm.weight", (spec.hidden,)
    if not spec.tie_word_embeddings:
        yield "lm_head.weight", (spec.vocab, spec.hidden)


def glm_stored_tensors(spec: ModelSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each stored tensor with the model's tensors it holds: here every one itself."""
    for name, _ in tensor_shapes(spec):
        yield name, (name,)
