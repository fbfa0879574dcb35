"""Checkpoints that are quantised already answer as their dequantised weights in transformers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_vacc
from tests.frontend.glm_factory import load_oracle, oracle_logits
from tests.frontend.quantized_factory import (
    Format,
    Quantised,
    compressed_config,
    gptq,
    gptq_config,
    int_quantized,
    make_quantised,
    pack_quantized,
)
from tvm_vacc.config import Config
from tvm_vacc.estimate import estimate
from tvm_vacc.runtime.model import Model


@dataclass(frozen=True)
class Case:
    config: dict[str, Any]
    form: Format
    bits: int
    group_size: int
    more: dict[str, Any]


CASES = {
    "gptq4-32": Case(gptq_config(4, 32), gptq, 4, 32, {"shards": 2}),
    "gptq8-head": Case(
        gptq_config(8, -1, desc_act=True),
        gptq,
        8,
        -1,
        {"also": ("lm_head.weight",), "vocab_size": 304},
    ),
    "packed4-32": Case(
        compressed_config("pack-quantized", 4, 32), pack_quantized, 4, 32, {"dtype": "bfloat16"}
    ),
}
SLOW = {
    "gptq4-v2": Case(
        gptq_config(4, -1, checkpoint_format="gptq_v2"), partial(gptq, zero_less=0), 4, -1, {}
    ),
    "packed8": Case(
        compressed_config("pack-quantized", 8, -1), pack_quantized, 8, -1, {"intermediate_size": 99}
    ),
    "int8": Case(compressed_config("int-quantized", 8, -1), int_quantized, 8, -1, {}),
}
PARAMETERS = [
    *(pytest.param(case, id=name) for name, case in CASES.items()),
    *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in SLOW.items()),
]


def compile_it(made: Quantised, folder: Path) -> Model:
    path = tvm_vacc.compile(
        made.path,
        output=folder / "artefact",
        dtype="fp32",
        prefill=64,
        context=128,
        passport=False,
    )
    model = tvm_vacc.load(path)
    assert isinstance(model, Model)
    return model


@pytest.mark.parametrize("case", PARAMETERS)
def test_logits(case: Case, tmp_path: Path) -> None:
    config = {"num_hidden_layers": 1, **case.more}
    made = make_quantised(
        tmp_path / "glm", case.config, case.form, case.bits, case.group_size, **config
    )
    model = compile_it(made, tmp_path)
    tokens = np.random.default_rng(0).integers(0, 290, 50).tolist()
    want = oracle_logits(load_oracle(made.exact), [tokens])[0]
    got = model.logits(tokens)
    assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()
    scheme = f"w{case.bits}a16"
    assert model.manifest.quantization == scheme
    stored = {(s.kind, s.stored_as, s.quantizer) for s in model.manifest.storage}
    assert ("linear", scheme, "stored") in stored
    head = (scheme, "stored") if "also" in case.more else ("fp32", "")
    assert ("head", *head) in stored
    assert ("embedding", "fp32", "") in stored
    options = Config.for_checkpoint(made.path, dtype="fp32").compile_options
    assert model.manifest.storage == estimate(options).storage  # what --dry-run says
