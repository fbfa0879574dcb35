from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.frontend.glm_factory import oracle_greedy, oracle_logits, random_model, tiny_config
from tests.frontend.one_line import one_line_error
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.glm_layout import tensor_shapes
from tvm_vacc.frontend.modeling_glm_vacc import GlmForCausalLM, causal_mask
from tvm_vacc.model_spec import ModelSpec


def spec_of(config: Any) -> ModelSpec:
    rope = config.rope_parameters
    return ModelSpec(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        rotary_dim=int(config.head_dim * rope["partial_rotary_factor"]),
        rope_theta=rope["rope_theta"],
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        rms_norm_eps=config.rms_norm_eps,
        max_positions=config.max_position_embeddings,
        qkv_bias=config.attention_bias,
        tie_word_embeddings=config.tie_word_embeddings,
        eos_token_ids=(),
        bos_token_id=None,
        pad_token_id=None,
        architecture="glm",
        dtype="float32",
    )


SHAPES: list[dict[str, Any]] = [
    {},
    {"num_key_value_heads": 4, "head_dim": 48, "attention_bias": False},
    {"num_attention_heads": 16, "num_key_value_heads": 1, "partial_rotary_factor": 1.0},
    {"head_dim": 64, "rope_theta": 1e4, "num_hidden_layers": 1, "tie_word_embeddings": True},
]


@pytest.mark.parametrize("overrides", SHAPES)
def test_logits_are_those_of_transformers(overrides: dict[str, Any]) -> None:
    """Two rows; seven tokens, then one, then the rest."""
    oracle = random_model(tiny_config(**overrides), seed=1)
    spec = spec_of(oracle.config)
    module = GlmForCausalLM(spec)
    module.load_state_dict(oracle.state_dict())
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, spec.vocab, (2, 20)))
    cache = [torch.zeros(2, spec.kv_heads, 0, spec.head_dim)] * (2 * spec.layers)
    pieces = []
    for begin, end in ((0, 7), (7, 8), (8, 20)):
        positions = torch.arange(begin, end).expand(2, -1)
        logits, *cache = module(tokens[:, begin:end], positions, *cache)
        pieces.append(logits.numpy())
    got, want = np.concatenate(pieces, axis=1), oracle_logits(oracle, tokens)
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_random_weights_give_text_that_varies() -> None:
    """The factory's promise to all who compare greedy text."""
    answer = oracle_greedy(random_model(tiny_config(), seed=0), [5, 6, 7], 128)
    assert len(set(answer)) > 30


def test_mask_depends_on_positions_alone() -> None:
    mask = causal_mask(torch.tensor([[0, 3]]), 5)
    assert (mask == 0).tolist() == [[[[True] + [False] * 4, [True] * 4 + [False]]]]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_shapes_of_one_rank(tp: int) -> None:
    """Ranks share heads and MLP width; four ranks hold a copy each of one of two KV heads."""
    spec = spec_of(tiny_config())
    kv_heads = max(2 // tp, 1)
    module = GlmForCausalLM(spec, tp=tp)
    whole = dict(tensor_shapes(spec))
    shared = {"q_proj": 128 // tp, "k_proj": 32 * kv_heads, "v_proj": 32 * kv_heads}
    for name, parameter in module.named_parameters():
        want = list(whole[name])
        part = name.split(".")[-2]
        if part in shared:
            want[0] = shared[part]
        elif part == "gate_up_proj":
            want[0] //= tp
        elif part in ("o_proj", "down_proj"):
            want[1] //= tp
        assert list(parameter.shape) == want, name
        torch.nn.init.normal_(parameter)
    past = torch.zeros(1, kv_heads, 3, 32)
    ids = torch.zeros(1, 2, dtype=torch.int64)
    logits, *present = module(ids, torch.tensor([[3, 4]]), *[past] * 4)
    assert logits.shape == (1, 2, 300)
    assert all(cache.shape == (1, kv_heads, 5, 32) for cache in present)


@pytest.mark.parametrize("tp", [0, 3, 8])
def test_ranks_must_divide(tp: int) -> None:
    spec = spec_of(tiny_config())
    one_line_error(lambda: GlmForCausalLM(spec, tp=tp), names="tp: ", kind=ConfigError)
