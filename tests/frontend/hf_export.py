"""Exports Hugging Face's own `GlmForCausalLM`, with past and present as flat tensors.

The graph that a user of another exporter would bring: eager attention, repeat_kv, an attention
mask, cos and sin repeated for rotate_half. Nothing of it is ours but the wrapper.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxsim
import torch
from transformers import DynamicCache, GlmConfig, GlmForCausalLM


@dataclass(frozen=True)
class TinyGlm:
    """Sizes of a random GLM; the defaults are the shape of GLM-4, shrunk."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    intermediate: int = 96
    vocab: int = 128
    partial_rotary: float = 0.5
    attention_bias: bool = True

    def model(self, seed: int = 0) -> GlmForCausalLM:
        """Build the model in fp32 with random weights large enough to tell tokens apart."""
        torch.manual_seed(seed)
        config = GlmConfig(
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate,
            vocab_size=self.vocab,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": self.partial_rotary,
            },
            attention_bias=self.attention_bias,
            pad_token_id=0,
            attn_implementation="eager",
        )
        model = GlmForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-0.3, 0.3) if parameter.dim() > 1 else parameter.uniform_(0.5, 1)
        return model


class _Part(torch.nn.Module):
    """Some outputs of a projection."""

    def __init__(self, whole: torch.nn.Linear, begin: int, end: int) -> None:
        super().__init__()
        self.whole = whole
        self.begin, self.end = begin, end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.whole(x)[..., self.begin : self.end]


def merge_qkv(model: GlmForCausalLM) -> None:
    """Make one projection of each layer's query, key and value, as some exporters do."""
    names = ("q_proj", "k_proj", "v_proj")
    for layer in model.model.layers:
        apart = [getattr(layer.self_attn, name) for name in names]
        ends = np.cumsum([part.out_features for part in apart]).tolist()
        biased = apart[0].bias is not None
        whole = torch.nn.Linear(apart[0].in_features, ends[-1], bias=biased)
        with torch.no_grad():
            whole.weight.copy_(torch.cat([part.weight for part in apart]))
            if biased:
                whole.bias.copy_(torch.cat([part.bias for part in apart]))
        for name, begin, end in zip(names, [0, *ends], ends, strict=False):
            setattr(layer.self_attn, name, _Part(whole, begin, end))


Positions = Literal["input", "past", "mask"]
"""Where a graph has them from: an input; the model, which counts the past; the mask's ones, as
Optimum and transformers' own `generate` count them."""


class _FlatCache(torch.nn.Module):
    """Feeds the cache as ``key0, value0, key1, ...`` and returns it the same way."""

    def __init__(self, model: GlmForCausalLM, positions: Positions) -> None:
        super().__init__()
        self.model = model
        self.positions = positions

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None,
        attention_mask: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        if self.positions == "mask":
            counted = attention_mask.long().cumsum(-1) - 1
            counted = counted.masked_fill(attention_mask == 0, 1)
            position_ids = counted[:, -input_ids.shape[1] :]
        cache = DynamicCache(
            [(past[i], past[i + 1]) for i in range(0, len(past), 2)], config=self.model.config
        )
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
        )
        present = [t for layer in output.past_key_values.layers for t in (layer.keys, layer.values)]
        return (output.logits, *present)


@functools.cache
def traced(
    glm: TinyGlm, positions: Positions = "input", merged_qkv: bool = False
) -> tuple[GlmForCausalLM, torch.export.ExportedProgram]:
    """Build and trace the model: the slow half, shared by the files made of it."""
    model = glm.model()
    if merged_qkv:
        merge_qkv(model)
    batch, seq, past = (torch.export.Dim(name) for name in ("batch", "seq", "past"))
    example_past = [torch.zeros(2, glm.kv_heads, 5, glm.head_dim) for _ in range(2 * glm.layers)]
    given = positions == "input"
    program = torch.export.export(
        _FlatCache(model, positions),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            torch.arange(5, 8).repeat(2, 1) if given else None,
            torch.ones(2, 8, dtype=torch.int64),
            example_past,
        ),
        dynamic_shapes=(
            {0: batch, 1: seq},
            {0: batch, 1: seq} if given else None,
            {0: batch, 1: torch.export.Dim.DYNAMIC},
            [{0: batch, 2: past} for _ in example_past],
        ),
        strict=False,
    )
    return model, program


def export_hf(
    glm: TinyGlm,
    path: Path,
    opset: int,
    *,
    optimize: bool = False,
    simplify: bool = False,
    positions: Positions = "input",
    merged_qkv: bool = False,
) -> Path:
    """Write the ONNX file at `path`, its weights beside it as ``<name>.data``; return `path`.

    Args:
        glm: what to export.
        path: of the file.
        opset: of ONNX.
        optimize: let PyTorch's exporter fold constants, weight transposes included.
        simplify: run onnxsim over the result.
        positions: where the graph has them from.
        merged_qkv: let one product make query, key and value.
    """
    names = [f"{i}.{part}" for i in range(glm.layers) for part in ("key", "value")]
    program = torch.onnx.export(
        traced(glm, positions, merged_qkv)[1],
        dynamo=True,
        optimize=optimize,
        opset_version=opset,
        input_names=[
            "input_ids",
            *(["position_ids"] if positions == "input" else []),
            "attention_mask",
            *(f"past_key_values.{name}" for name in names),
        ],
        output_names=["logits", *(f"present.{name}" for name in names)],
        verbose=False,
    )
    program.save(str(path), external_data=True)
    if simplify:
        simplified, equal = onnxsim.simplify(onnx.load(str(path)))
        assert equal
        onnx.save(
            simplified,
            str(path),
            save_as_external_data=True,
            location=f"{path.name}.data",
            size_threshold=1024,
        )
    return path
