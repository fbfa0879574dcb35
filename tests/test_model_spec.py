from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tvm_vacc.model_spec import ModelSpec

GLM_4_9B_CHAT: dict[str, Any] = {
    "layers": 40,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 2,
    "head_dim": 128,
    "rotary_dim": 64,
    "rope_theta": 5e6,
    "intermediate": 13696,
    "vocab": 151552,
    "rms_norm_eps": 1.5625e-07,
    "max_positions": 131072,
    "qkv_bias": True,
    "tie_word_embeddings": False,
    "eos_token_ids": (151329, 151336, 151338),
    "bos_token_id": None,
    "pad_token_id": 151329,
    "architecture": "glm",
    "dtype": "bfloat16",
}


def test_json_round_trip() -> None:
    spec = ModelSpec(**GLM_4_9B_CHAT)
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layers", 0),
        ("hidden", 4096.0),
        ("heads", True),
        ("kv_heads", 3),
        ("rotary_dim", 63),
        ("rotary_dim", 130),
        ("rope_theta", float("nan")),
        ("rope_theta", float("inf")),
        ("rope_theta", 10000),
        ("rms_norm_eps", 0.0),
        ("qkv_bias", 1),
        ("eos_token_ids", (151552,)),
        ("eos_token_ids", 2),
        ("bos_token_id", -1),
        ("pad_token_id", "0"),
        ("architecture", "glm4"),
        ("dtype", "float8"),
    ],
)
def test_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^model spec: {field} is "):
        ModelSpec(**{**GLM_4_9B_CHAT, field: value})


@pytest.mark.parametrize("data", [None, [], {}, {"layers": 40}])
def test_incomplete_json_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="the model spec"):
        ModelSpec.from_json(data)


def test_unknown_key_is_refused() -> None:
    data = {**ModelSpec(**GLM_4_9B_CHAT).to_json(), "layer": 1}
    with pytest.raises(ValueError, match="unknown key 'layer'"):
        ModelSpec.from_json(data)


def test_end_tokens_must_be_a_list() -> None:
    data = {**ModelSpec(**GLM_4_9B_CHAT).to_json(), "eos_token_ids": 2}
    with pytest.raises(ValueError, match="eos_token_ids"):
        ModelSpec.from_json(data)


def test_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "tvm", "onnx", "numpy"}
    code = f"import sys, tvm_vacc.model_spec\nprint(sorted({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
