"""Real architectures with random weights, exported by torch, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

import tvm_vacc
from tvm_vacc.runtime.graph import Graph

Made = tuple[nn.Module, torch.Tensor]
Make = Callable[[], Made]


class Logits(nn.Module):
    """A transformers model that takes and returns one tensor."""

    def __init__(self, model: nn.Module, output: str, **options: bool) -> None:
        super().__init__()
        self.model, self.output, self.options = model, output, options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(x, **self.options), self.output)


class Block(nn.Module):
    """ResNet's basic block: two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        straight = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if straight
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Sequential):
    """ResNet-18's plan (He et al., 2015, arXiv:1512.03385), narrow and shallow."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            Block(16, 16, 1),
            Block(16, 32, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


def bert() -> Made:
    config = BertConfig(
        vocab_size=99,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=32,
    )
    return Logits(BertModel(config), "last_hidden_state"), torch.randint(0, 99, (2, 11))


def vit() -> Made:
    config = ViTConfig(
        image_size=24,
        patch_size=8,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        num_labels=7,
    )
    return Logits(ViTForImageClassification(config), "logits"), torch.randn(2, 3, 24, 24)


def decoder(config_of: Callable[..., Any], model_of: Callable[..., nn.Module]) -> Made:
    config = config_of(
        vocab_size=99,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=80,
    )
    model = Logits(model_of(config), "logits", use_cache=False)
    return model, torch.randint(0, 99, (1, 11))


def llama() -> Made:
    return decoder(LlamaConfig, LlamaForCausalLM)


def qwen() -> Made:
    return decoder(Qwen2Config, Qwen2ForCausalLM)


def resnet() -> Made:
    model = ResNet()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as trained: no mean of 0, no variance of 1
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model, torch.randn(2, 3, 65, 65)


@pytest.mark.parametrize("make", [bert, vit, llama, qwen, resnet])
def test_architecture_equals_onnx_runtime(make: Make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = make()
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(model.eval(), (x,), path, dynamo=True, input_names=["x"], verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {"x": x.numpy()}
    [want] = session.run(None, inputs)
    graph = tvm_vacc.load(tvm_vacc.compile(path, output=tmp_path / "artefact", dtype="fp32"))
    assert isinstance(graph, Graph)
    [got] = graph.run(inputs).values()
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
    assert np.ptp(want) > 0.1  # an answer that is the same everywhere would prove nothing
