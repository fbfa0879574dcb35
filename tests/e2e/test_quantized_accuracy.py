"""What quantised weights cost on text the demo model has not seen, and what the kernels add.

The oracle is transformers in fp32: once as it is, and once with the weights (and, for w8a8, the
activations) rounded by NumPy and torch, and with what `backend.dtype` says is stored and multiplied
in 16 bits rounded likewise: that is all that a compiled model may lose. Codes that are calibrated
are compared with those rounded to nearest: GPTQ must lower the divergence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import GlmForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import tvm_vacc
from tvm_vacc.config import load_config
from tvm_vacc.estimate import estimate
from tvm_vacc.runtime.model import Model

DEMO = Path(__file__).parents[2] / "demo"
WINDOW = 256
WINDOWS = 6


@dataclass(frozen=True)
class Case:
    """A type, and what it may cost against fp32: about 1.5 times what was measured.

    Attributes:
        quantize: the section `frontend.quantize`.
        kl: bound of the mean KL divergence, in nats.
        kl_99: bound of its 99th percentile.
        top1: least share of tokens whose most probable successor is the same.
        added: bound of the mean KL divergence between the compiled and the emulated model.
        dtype: of the KV cache, the head and the table.
    """

    quantize: dict[str, Any]
    kl: float
    kl_99: float
    top1: float
    added: float
    dtype: str = "bf16"


CASES = {
    "w8a16-fp32": Case({"type": "w8a16"}, 1.5e-4, 1.2e-3, 0.985, 1e-7, dtype="fp32"),
    "w8a8": Case({"type": "w8a8"}, 2.5e-4, 2e-3, 0.98, 1.5e-4),
    "w4a16-64": Case({"type": "w4a16"}, 2.2e-2, 0.11, 0.87, 1e-4),
}
SLOW = {
    "w8a16-gptq": Case({"type": "w8a16_gptq"}, 1e-4, 7e-4, 0.99, 2e-5),
    "w8a16": Case({"type": "w8a16"}, 1.7e-4, 1.2e-3, 0.985, 2e-5),
    "w4a16-64-gptq": Case({"type": "w4a16_gptq"}, 1.09e-2, 8e-2, 0.91, 1e-4),
    "w4a16-32": Case({"type": "w4a16", "group_size": 32}, 2.1e-2, 0.11, 0.88, 1e-4),
    "w4a16-128": Case({"type": "w4a16", "group_size": 128}, 3e-2, 0.17, 0.86, 1e-4),
    "w8a16-head8": Case({"type": "w8a16", "head": "8bit"}, 2.5e-4, 1.3e-3, 0.98, 4e-5),
    "w8a16-embedding8": Case({"type": "w8a16", "embedding": "8bit"}, 1.9e-4, 1.3e-3, 0.98, 4e-5),
}


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    tokenizer = Tokenizer.from_file(str(DEMO / "checkpoint" / "tokenizer.json"))
    texts = [(DEMO / "heldout" / name).read_text() for name in ("kjv.txt", "poems.txt")]
    rows = [
        tokenizer.encode(text).ids[start : start + WINDOW]
        for text in texts
        for start in range(0, WINDOW * WINDOWS // 2, WINDOW)
    ]
    return torch.tensor(rows)


def log_probabilities(model: GlmForCausalLM, tokens: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.log_softmax(model(tokens).logits.double(), -1).numpy()


def load_oracle() -> GlmForCausalLM:
    return GlmForCausalLM.from_pretrained(
        DEMO / "checkpoint", dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def exact(tokens: torch.Tensor) -> np.ndarray:
    return log_probabilities(load_oracle(), tokens)


def rounded_8(weight: np.ndarray) -> np.ndarray:
    """Return `weight` on a grid of 255 values a row."""
    scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30) / 127
    return np.rint(weight / scale) * scale


def rounded_4(weight: np.ndarray, group: int) -> np.ndarray:
    """Return `weight` on a grid of 16 values a group; its largest magnitude stands at -8."""
    groups = weight.reshape(len(weight), -1, group)
    at = np.abs(groups).argmax(axis=2, keepdims=True)
    scale = (np.take_along_axis(groups, at, 2) / -8).astype(np.float16).astype(np.float32)
    scale = np.where(scale == 0, 1, scale)
    return (np.clip(np.rint(groups / scale), -8, 7) * scale).reshape(weight.shape)


def round_tokens(_module: torch.nn.Module, arguments: tuple[torch.Tensor]) -> torch.Tensor:
    scale = arguments[0].abs().amax(-1, keepdim=True) / 127
    return torch.round(arguments[0] / scale) * scale


FLOAT_INPUTS = ("k_proj", "v_proj", "down_proj")
"""Linears whose activations stay as they are in w8a8."""


def in_bf16(values: torch.Tensor) -> torch.Tensor:
    return values.bfloat16().float()


def attention_over_bf16_cache(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Keys and values as the cache stores them, multiplied in bf16; all sums are fp32."""
    query, key, value = in_bf16(query * scaling), in_bf16(key), in_bf16(value)
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    seen = query.shape[2]
    hidden = torch.ones(seen, seen, dtype=torch.bool).triu(1)
    scores = (query @ key.transpose(2, 3)).masked_fill(hidden, -torch.inf)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    made = in_bf16(weights) @ value / weights.sum(-1, keepdim=True)
    return made.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register("bf16_cache", attention_over_bf16_cache)


def emulated(
    case: Case, tokens: torch.Tensor, codes: dict[str, np.ndarray] | None = None
) -> np.ndarray:
    """Run transformers in fp32 with the weights that the scheme makes of the checkpoint's.

    With `codes`, the linears inside the layers have these instead.
    """
    model, keys = load_oracle(), case.quantize
    group = keys.get("group_size", 64)
    if case.dtype == "bf16":
        model.set_attn_implementation("bf16_cache")
        if "head" not in keys:
            model.lm_head.register_forward_pre_hook(lambda _, inputs: (in_bf16(inputs[0]),))
    for name, module in model.named_modules():
        is_table = isinstance(module, torch.nn.Embedding) and keys.get("embedding") == "8bit"
        is_head = name == "lm_head"
        if isinstance(module, torch.nn.Linear) and not is_head:
            weight = module.weight.detach().numpy()
            if codes is not None:
                scales = codes[f"{name}.weight.scales"]
                repeats = weight.shape[1] // scales.shape[1]
                rounded = codes[f"{name}.weight.codes"] * np.repeat(scales, repeats, axis=1)
            else:
                four = keys["type"].startswith("w4a16")
                rounded = rounded_4(weight, group) if four else rounded_8(weight)
            if keys["type"] == "w8a8" and not name.endswith(FLOAT_INPUTS):
                module.register_forward_pre_hook(round_tokens)
        elif is_table or (is_head and keys.get("head") == "8bit"):
            rounded = rounded_8(module.weight.detach().numpy())
        else:
            continue
        module.weight.data.copy_(torch.from_numpy(rounded))
    return log_probabilities(model, tokens)


@pytest.fixture(scope="module")
def compile_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Model]:
    folder = tmp_path_factory.mktemp("quantized")

    def compile_it(case: Case) -> Model:
        config = folder / "config.yaml"
        document = {
            "name": "-".join(map(str, [*case.quantize.values(), case.dtype])),
            "frontend": {
                "checkpoint": str(DEMO / "checkpoint"),
                "type": "huggingface",
                "shape": {"input_ids": [[256], [512]]},
                "quantize": case.quantize,
            },
            "backend": {"type": "tvm_vacc", "dtype": case.dtype},
            "dataset": {"nsamples": 32, "seqlen": 256},
            "accuracy": False,
            "workspace": {"path": str(folder)},
        }
        config.write_text(yaml.safe_dump(document))
        model = tvm_vacc.load(tvm_vacc.compile(config, target="tvm_vacc -mcpu=native"))
        assert isinstance(model, Model)
        assert model.manifest.storage == estimate(load_config(config).compile_options).storage
        return model

    return compile_it


def codes_of(model: Model) -> dict[str, np.ndarray]:
    """Return the codes and scales that `model`, just compiled, was packed of."""
    cache = model.path.parent / ".tvm_vacc_cache"
    pieces = [path for path in (cache / "codes").iterdir() if path.is_dir()]
    newest = max(pieces, key=lambda path: path.stat().st_mtime)
    made: dict[str, np.ndarray] = {}
    for path in newest.glob("layer.*.safetensors"):
        made |= load_file(path)
    return made


def divergence(want: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Return the KL divergence of every token, in nats."""
    return (np.exp(want) * (want - got)).sum(-1).ravel()


PARAMETERS = [
    *(pytest.param(case, id=name) for name, case in CASES.items()),
    *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()),
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_kl_divergence_on_held_out_text(
    case: Case,
    tokens: torch.Tensor,
    exact: np.ndarray,
    compile_case: Callable[[Case], Model],
) -> None:
    model = compile_case(case)
    assert model.manifest.quantization == case.quantize["type"]
    storage = model.manifest.storage
    by_kind = {stored.kind: stored.stored_as for stored in storage}
    linears = {(s.stored_as, s.matrices) for s in storage if s.kind == "linear"}
    is_w8a8 = case.quantize["type"] == "w8a8"
    scheme = case.quantize["type"].partition("_")[0]
    assert linears == ({("w8a8", 12), ("w8a16", 12)} if is_w8a8 else {(scheme, 24)})
    assert by_kind["head"] == ("w8a16" if "head" in case.quantize else case.dtype)
    assert by_kind["embedding"] == ("w8a16" if "embedding" in case.quantize else case.dtype)
    logits = torch.tensor(np.stack([model.logits(row.tolist()) for row in tokens]))
    got = torch.log_softmax(logits.double(), -1).numpy()
    codes = codes_of(model) if case.quantize["type"].endswith("gptq") else None
    same_rounding = emulated(case, tokens, codes)
    kl = divergence(exact, got)
    top1 = (exact.argmax(-1) == got.argmax(-1)).mean()
    emulated_kl = divergence(exact, same_rounding).mean()
    added = divergence(same_rounding, got).mean()
    print(
        f"{case.quantize} {case.dtype}: KL mean {kl.mean():.3e}, 99 % {np.quantile(kl, 0.99):.3e}, "
        f"top-1 {top1:.2%}; emulated {emulated_kl:.3e}, added {added:.1e}"
    )
    if codes is not None:
        assert kl.mean() < 0.7 * divergence(exact, emulated(case, tokens)).mean()
        assert len(model.manifest.calibration) == 24
        assert all(weight.error < weight.rounded for weight in model.manifest.calibration)
    assert added < case.added
    assert kl.mean() < case.kl
    assert np.quantile(kl, 0.99) < case.kl_99
    assert top1 > case.top1
