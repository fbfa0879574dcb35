"""Tiny random GLM checkpoints of both layouts, and transformers as their oracle.

The weights are scaled so that activations keep their size through the layers, attention is neither
flat nor one-hot, and logits are a few units apart: greedy text varies, and a wrong kernel shows.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import GlmConfig, GlmForCausalLM

END_TOKENS = [297, 298, 299]
_LOGIT_SCALE = 3.0


def tiny_config(**overrides: Any) -> GlmConfig:
    """A GLM of two layers, 300 tokens, GQA ratio 2, head_dim 32, rotary on half of each head."""
    values: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0 * 500,
        "attention_bias": True,
        "pad_token_id": END_TOKENS[0],
        "eos_token_id": END_TOKENS,
        **overrides,
    }
    values["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": values.pop("rope_theta"),
        "partial_rotary_factor": values.pop("partial_rotary_factor"),
    }
    return GlmConfig(**values)


def random_model(config: GlmConfig, seed: int = 0) -> GlmForCausalLM:
    """A GlmForCausalLM in fp32, with eager attention and random weights."""
    config._attn_implementation = "eager"
    model = GlmForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif name == "model.embed_tokens.weight" and not config.tie_word_embeddings:
                parameter.copy_(noise)
            else:
                scale = _LOGIT_SCALE if parameter.shape[0] == config.vocab_size else 1.0
                parameter.copy_(noise * scale / parameter.shape[1] ** 0.5)
    return model


def make_glm_checkpoint(
    directory: Path, *, dtype: str = "float32", shards: int = 1, seed: int = 0, **config: Any
) -> Path:
    """Write a random checkpoint of the `glm` layout and return its directory.

    Args:
        directory: is created.
        dtype: of the stored weights: `float32`, `float16` or `bfloat16`.
        shards: files the weights are spread over; more than one makes an index.
        seed: of the weights.
        config: overrides of `tiny_config`.
    """
    model = random_model(tiny_config(**config), seed)
    model = model.to(getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    directory.mkdir(parents=True)
    model.config.save_pretrained(directory)
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    write_weights(directory, state, shards)
    return directory


def make_chatglm_checkpoint(directory: Path, glm: Path, *, shards: int = 1) -> Path:
    """Write the checkpoint `glm` again in the `chatglm` layout and return its directory."""
    theirs = json.loads((glm / "config.json").read_text())
    layers = theirs["num_hidden_layers"]
    state = _to_chatglm(load_weights(glm), layers)
    directory.mkdir(parents=True)
    config = {
        "model_type": "chatglm",
        "architectures": ["ChatGLMModel"],
        "add_bias_linear": False,
        "add_qkv_bias": theirs["attention_bias"],
        "apply_residual_connection_post_layernorm": False,
        "ffn_hidden_size": theirs["intermediate_size"],
        "hidden_size": theirs["hidden_size"],
        "kv_channels": theirs["head_dim"],
        "layernorm_epsilon": theirs["rms_norm_eps"],
        "multi_query_attention": True,
        "multi_query_group_num": theirs["num_key_value_heads"],
        "num_attention_heads": theirs["num_attention_heads"],
        "num_layers": layers,
        "original_rope": True,
        "padded_vocab_size": theirs["vocab_size"],
        "post_layer_norm": True,
        "rmsnorm": True,
        "rope_ratio": theirs["rope_parameters"]["rope_theta"] / 10000,
        "seq_length": theirs["max_position_embeddings"],
        "tie_word_embeddings": False,
        "eos_token_id": theirs["eos_token_id"],
        "pad_token_id": theirs["pad_token_id"],
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    write_weights(directory, state, shards)
    return directory


def make_sparse_9b(directory: Path) -> Path:
    """Write GLM-4-9B-chat's config and header in bf16; the 18 GB of weights are a hole."""
    config = {
        "model_type": "glm",
        "attention_bias": True,
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "max_position_embeddings": 131072,
        "num_attention_heads": 32,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1.5625e-07,
        "rope_theta": 10000.0 * 500,
        "vocab_size": 151552,
        "eos_token_id": [151329, 151336, 151338],
    }
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in GlmForCausalLM(GlmConfig(**config)).state_dict().items()
        }
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    with (directory / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return directory


def _to_chatglm(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """Fuse q, k and v and rename, as the repositories with remote code have it."""
    out = {
        "transformer.embedding.word_embeddings.weight": state["model.embed_tokens.weight"],
        "transformer.rotary_pos_emb.inv_freq": torch.ones(4),
        "transformer.encoder.final_layernorm.weight": state["model.norm.weight"],
        "transformer.output_layer.weight": state["lm_head.weight"],
    }
    for i in range(layers):
        ours, theirs = f"model.layers.{i}", f"transformer.encoder.layers.{i}"
        for kind in ("weight", "bias"):
            parts = [state.get(f"{ours}.self_attn.{p}_proj.{kind}") for p in "qkv"]
            if parts[0] is not None:
                out[f"{theirs}.self_attention.query_key_value.{kind}"] = torch.cat(parts)
        for old, new in {
            "input_layernorm": "input_layernorm",
            "self_attn.o_proj": "self_attention.dense",
            "post_attention_layernorm": "post_attention_layernorm",
            "mlp.gate_up_proj": "mlp.dense_h_to_4h",
            "mlp.down_proj": "mlp.dense_4h_to_h",
        }.items():
            out[f"{theirs}.{new}.weight"] = state[f"{ours}.{old}.weight"]
    return out


def write_weights(directory: Path, state: dict[str, torch.Tensor], shards: int = 1) -> None:
    """Save a state dict as one safetensors file, or as `shards` of them with an index."""
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    if shards == 1:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(state)
    weight_map = {}
    for i in range(shards):
        shard = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: state[name] for name in names[i::shards]}
        save_file(part, directory / shard, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def load_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a checkpoint of either layout, as stored."""
    state: dict[str, torch.Tensor] = {}
    for file in sorted(directory.glob("*.safetensors")):
        state.update(load_file(file))
    return state


def load_oracle(glm: Path) -> GlmForCausalLM:
    """Open a checkpoint of the `glm` layout with transformers: fp32, eager attention."""
    model = GlmForCausalLM.from_pretrained(
        glm, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


@torch.no_grad()
def oracle_logits(model: GlmForCausalLM, tokens: Any) -> np.ndarray:
    """Logits `[batch, seq, vocab]` fp32 of token ids `[batch, seq]`, from position 0."""
    ids = torch.as_tensor(np.asarray(tokens), dtype=torch.int64)
    return model(input_ids=ids, use_cache=False).logits.numpy()


@torch.no_grad()
def oracle_greedy(model: GlmForCausalLM, tokens: list[int], new_tokens: int) -> list[int]:
    """The `new_tokens` greedy tokens that follow `tokens`, end tokens not stopping it."""
    step, past, answer = torch.tensor([tokens]), None, []
    for _ in range(new_tokens):
        out = model(input_ids=step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        step = out.logits[:, -1:].argmax(-1)
        answer.append(int(step))
    return answer
