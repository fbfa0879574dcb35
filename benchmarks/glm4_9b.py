"""The dimensions of GLM-4-9B-chat, from its config.json (model card: zai-org/glm-4-9b-chat-hf)."""

from __future__ import annotations

from typing import Any, Final

from tvm_vacc.model_spec import ModelSpec

CONFIG: Final[dict[str, Any]] = {
    "architectures": ["GlmForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": [151329, 151336, 151338],
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 13696,
    "max_position_embeddings": 131072,
    "model_type": "glm",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "pad_token_id": 151329,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 5000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 151552,
}
"""config.json: as it was published, in the words that every release of transformers reads."""

SPEC: Final = ModelSpec(
    layers=40,
    hidden=4096,
    heads=32,
    kv_heads=2,
    head_dim=128,
    rotary_dim=64,
    rope_theta=5000000.0,
    intermediate=13696,
    vocab=151552,
    rms_norm_eps=1.5625e-07,
    max_positions=131072,
    qkv_bias=True,
    tie_word_embeddings=False,
    eos_token_ids=(151329, 151336, 151338),
    bos_token_id=None,
    pad_token_id=151329,
    architecture="glm",
    dtype="bfloat16",
)
"""The same, as the compiler reads it."""

TOKENS: Final = (1, 8, 512)
"""Tokens of one step that kernels are measured at: a decode step, a batch, a prompt."""

LINEARS: Final = (
    (SPEC.hidden, (SPEC.heads + 2 * SPEC.kv_heads) * SPEC.head_dim),
    (SPEC.heads * SPEC.head_dim, SPEC.hidden),
    (SPEC.hidden, 2 * SPEC.intermediate),
    (SPEC.intermediate, SPEC.hidden),
)
"""Inputs and outputs of the linears of a layer: q, k and v as one, o, gate and up as one, down."""

LM_HEAD: Final = (SPEC.hidden, SPEC.vocab)
"""Inputs and outputs of the last linear, which sees the last token of each row only."""
