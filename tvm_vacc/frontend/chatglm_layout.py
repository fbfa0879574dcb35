"""The `chatglm` layout: the repositories with remote code (chatglm2-6b, chatglm3-6b, glm-4-9b).

Their modeling_chatglm.py is the source of what the keys mean. The fused query_key_value holds the
rows of the query heads, of the key heads, then of the value heads, so each part is a slice of the
file. RoPE turns the first half of each head, with base 10000 * rope_ratio. One old model,
chatglm2-6b-32k, divides the positions by rope_ratio instead, with nothing in its config that says
so: it comes out wrong and is not among the models named above.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.model_spec import ModelSpec

EMBEDDING = "transformer.embedding.word_embeddings.weight"

IGNORED = frozenset({"transformer.rotary_pos_emb.inv_freq"})
"""Buffers of old checkpoints that the config determines."""

_ROPE_BASE = 10000.0

_SWITCHES: dict[str, tuple[tuple[Any, ...], Any]] = {
    # key: (supported values, what modeling_chatglm.py takes when the key is absent)
    "multi_query_attention": ((True,), False),  # without it q, k and v alternate head by head
    "original_rope": ((True,), None),
    "rmsnorm": ((True,), True),
    "post_layer_norm": ((True,), True),
    "add_bias_linear": ((False,), False),
    "apply_residual_connection_post_layernorm": ((False,), False),
    "interleaved_qkv": ((False,), False),
    "pre_seq_len": ((None,), None),
    "quantization_bit": ((0, None), 0),
    "quantization_config": ((None,), None),
    "vision_config": ((None,), None),
    "tie_word_embeddings": ((False, None), False),  # the code never ties, whatever the key says
}


def read_chatglm_config(config: ConfigReader) -> dict[str, Any]:
    """Return the fields of ModelSpec that config.json determines.

    Raises:
        CheckpointError: a key is missing, ill-typed, or asks for what is not supported.
    """
    for key, (supported, absent) in _SWITCHES.items():
        config.require(key, supported, absent=absent)
    ratio = config.number("rope_ratio") if config.has("rope_ratio") else 1.0
    head_dim = config.integer("kv_channels")
    if head_dim % 4:
        raise config.fault("kv_channels", "a multiple of 4, for half of it is rotated in pairs")
    return {
        "layers": config.integer("num_layers"),
        "hidden": config.integer("hidden_size"),
        "heads": config.integer("num_attention_heads"),
        "kv_heads": config.integer("multi_query_group_num"),
        "head_dim": head_dim,
        "rotary_dim": head_dim // 2,
        "rope_theta": _ROPE_BASE * ratio,
        "intermediate": config.integer("ffn_hidden_size"),
        "vocab": config.integer("padded_vocab_size"),
        "rms_norm_eps": config.number("layernorm_epsilon"),
        "max_positions": config.integer("seq_length"),
        "qkv_bias": config.boolean("add_qkv_bias"),
        "tie_word_embeddings": False,
    }


def chatglm_stored_tensors(spec: ModelSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each stored tensor with the model's tensors it holds, in the order of its rows."""
    yield EMBEDDING, ("model.embed_tokens.weight",)
    for i in range(spec.layers):
        stored, layer = f"transformer.encoder.layers.{i}", f"model.layers.{i}"
        for kind in ("weight", "bias") if spec.qkv_bias else ("weight",):
            parts = tuple(f"{layer}.self_attn.{p}_proj.{kind}" for p in "qkv")
            yield f"{stored}.self_attention.query_key_value.{kind}", parts
        for theirs, ours in _RENAMED.items():
            yield f"{stored}.{theirs}.weight", (f"{layer}.{ours}.weight",)
    yield "transformer.encoder.final_layernorm.weight", ("model.norm.weight",)
    yield "transformer.output_layer.weight", ("lm_head.weight",)


_RENAMED = {
    "input_layernorm": "input_layernorm",
    "self_attention.dense": "self_attn.o_proj",
    "post_attention_layernorm": "post_attention_layernorm",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",  # gate rows, then up rows, in both layouts
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
