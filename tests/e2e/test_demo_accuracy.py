"""What 16-bit weights and caches cost, on text the demo model has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GlmForCausalLM

import tvm_vacc
from tvm_vacc.runtime.model import Model

DEMO = Path(__file__).parents[2] / "demo"
WINDOW = 256
WINDOWS = 6


@pytest.fixture(scope="module")
def oracle() -> GlmForCausalLM:
    return GlmForCausalLM.from_pretrained(
        DEMO / "checkpoint", dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module", params=["bf16", "fp16"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tvm_vacc.compile(
        DEMO / "checkpoint",
        output=tmp_path_factory.mktemp("demo") / request.param,
        target="tvm_vacc -mcpu=native",
        dtype=request.param,
    )
    loaded = tvm_vacc.load(path)
    assert isinstance(loaded, Model)
    return loaded


def windows(model: Model) -> Iterator[list[int]]:
    for name in ("kjv.txt", "poems.txt"):
        text = (DEMO / "heldout" / name).read_text()
        tokens = model.tokenizer.encode(text)
        for start in range(0, WINDOW * WINDOWS // 2, WINDOW):
            yield tokens[start : start + WINDOW]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_kl_divergence_on_held_out_text(model: Model, oracle: GlmForCausalLM) -> None:
    divergences, agreements = [], []
    for tokens in windows(model):
        with torch.no_grad():
            want = log_softmax(oracle(torch.tensor([tokens])).logits[0].numpy())
        got = log_softmax(model.logits(tokens))
        divergences.append((np.exp(want) * (want - got)).sum(-1))
        agreements.append(want.argmax(-1) == got.argmax(-1))
    kl = np.concatenate(divergences)
    top1 = np.concatenate(agreements).mean()
    print(
        f"{model.manifest.dtype}: KL mean {kl.mean():.2e}, 99 % {np.quantile(kl, 0.99):.2e}, "
        f"top-1 {top1:.2%}"
    )
    assert kl.mean() < 1e-4
    assert top1 > 0.99
