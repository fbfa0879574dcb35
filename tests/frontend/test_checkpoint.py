from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.frontend.glm_factory import (
    END_TOKENS,
    load_weights,
    make_chatglm_checkpoint,
    make_glm_checkpoint,
    write_weights,
)
from tests.frontend.one_line import one_line_error
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.checkpoint import open_checkpoint

FUSED = "transformer.encoder.layers.0.self_attention.query_key_value.weight"


@pytest.fixture(scope="module")
def glm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "m", dtype="bfloat16")


@pytest.fixture(scope="module")
def chatglm(tmp_path_factory: pytest.TempPathFactory, glm: Path) -> Path:
    return make_chatglm_checkpoint(tmp_path_factory.mktemp("chatglm") / "m", glm, shards=3)


@pytest.fixture
def copy(tmp_path: Path, glm: Path, chatglm: Path) -> Callable[[str], Path]:
    def of(layout: str) -> Path:
        return Path(shutil.copytree({"glm": glm, "chatglm": chatglm}[layout], tmp_path / layout))

    return of


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; a value of `...` removes the key."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def test_spec_of_the_glm_layout(glm: Path) -> None:
    spec = open_checkpoint(glm).spec
    assert spec.to_json() == {
        "layers": 2,
        "hidden": 64,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 32,
        "rotary_dim": 16,
        "rope_theta": 5e6,
        "intermediate": 96,
        "vocab": 300,
        "rms_norm_eps": 1.5625e-07,
        "max_positions": 2048,
        "qkv_bias": True,
        "tie_word_embeddings": False,
        "eos_token_ids": END_TOKENS,
        "bos_token_id": None,
        "pad_token_id": END_TOKENS[0],
        "architecture": "glm",
        "dtype": "bfloat16",
    }


def test_both_layouts_are_one_model(glm: Path, chatglm: Path) -> None:
    ours, theirs = open_checkpoint(glm), open_checkpoint(chatglm)
    assert theirs.spec.to_json() == {**ours.spec.to_json(), "architecture": "chatglm"}
    assert theirs.tensors.keys() == ours.tensors.keys()
    stored = load_weights(glm)
    for checkpoint in (ours, theirs):
        for name, ref in checkpoint.tensors.items():
            bits = torch.from_numpy(ref.read().view("int16").copy())
            assert torch.equal(bits.view(torch.bfloat16), stored[name]), name


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shards", [1, 4])
def test_dtypes_and_shards(tmp_path: Path, dtype: str, shards: int) -> None:
    path = make_glm_checkpoint(tmp_path / "m", dtype=dtype, shards=shards)
    checkpoint = open_checkpoint(path)
    assert checkpoint.spec.dtype == dtype
    assert {ref.dtype for ref in checkpoint.tensors.values()} == {dtype}
    assert len({ref.file for ref in checkpoint.tensors.values()}) == shards


def test_tied_embeddings_have_no_head(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(make_glm_checkpoint(tmp_path / "m", tie_word_embeddings=True))
    assert checkpoint.spec.tie_word_embeddings
    assert "lm_head.weight" not in checkpoint.tensors


def test_rope_keys_of_transformers_4(copy: Callable[[str], Path]) -> None:
    path = copy("glm")
    edit_json(
        path / "config.json", rope_parameters=..., rope_theta=77.0, partial_rotary_factor=0.25
    )
    spec = open_checkpoint(path).spec
    assert (spec.rope_theta, spec.rotary_dim) == (77.0, 8)


@pytest.mark.parametrize(("ratio", "theta"), [(..., 1e4), (1, 1e4), (500, 5e6), (0.5, 5e3)])
def test_rope_ratio_is_read(copy: Callable[[str], Path], ratio: Any, theta: float) -> None:
    path = copy("chatglm")
    edit_json(path / "config.json", rope_ratio=ratio)
    assert open_checkpoint(path).spec.rope_theta == theta


@pytest.mark.parametrize("layout", ["glm", "chatglm"])
@pytest.mark.parametrize(("value", "tokens"), [(2, (2,)), ([7, 8, 9], (7, 8, 9)), (None, ())])
def test_end_tokens(
    copy: Callable[[str], Path], layout: str, value: Any, tokens: tuple[int, ...]
) -> None:
    path = copy(layout)
    edit_json(path / "config.json", eos_token_id=value)
    assert open_checkpoint(path).spec.eos_token_ids == tokens
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3]}))
    assert open_checkpoint(path).spec.eos_token_ids == (1, 3)


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("glm", {"model_type": "glm4"}),
        ("glm", {"model_type": "llama"}),
        ("glm", {"model_type": ...}),
        ("glm", {"hidden_size": ...}),
        ("glm", {"hidden_size": "64"}),
        ("glm", {"head_dim": None}),
        ("glm", {"hidden_act": "gelu"}),
        ("glm", {"rope_scaling": {"type": "linear", "factor": 2}}),
        ("glm", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}),
        ("glm", {"rope_parameters": {"partial_rotary_factor": 0.5}}),
        ("glm", {"rope_theta": 1e4}),
        ("glm", {"partial_rotary_factor": 1.5, "rope_parameters": {"rope_theta": 1e4}}),
        ("glm", {"partial_rotary_factor": 0.01, "rope_parameters": {"rope_theta": 1e4}}),
        ("glm", {"quantization_config": {"bits": 4}}),
        ("glm", {"num_key_value_heads": 3}),
        ("glm", {"rms_norm_eps": 0}),
        ("glm", {"rms_norm_eps": 10**400}),
        ("glm", {"eos_token_id": "2"}),
        ("glm", {"eos_token_id": [True]}),
        ("glm", {"eos_token_id": 300}),
        ("glm", {"num_hidden_layers": 10**12}),
        ("glm", {"num_hidden_layers": 3}),
        ("glm", {"attention_bias": 1}),
        ("chatglm", {"num_layers": ...}),
        ("chatglm", {"multi_query_attention": False}),
        ("chatglm", {"multi_query_attention": ...}),
        ("chatglm", {"original_rope": False}),
        ("chatglm", {"original_rope": ...}),
        ("chatglm", {"rmsnorm": False}),
        ("chatglm", {"post_layer_norm": False}),
        ("chatglm", {"add_bias_linear": True}),
        ("chatglm", {"add_qkv_bias": ...}),
        ("chatglm", {"apply_residual_connection_post_layernorm": True}),
        ("chatglm", {"quantization_bit": 4}),
        ("chatglm", {"pre_seq_len": 128}),
        ("chatglm", {"kv_channels": 30}),
        ("chatglm", {"rope_ratio": 0}),
        ("chatglm", {"rope_ratio": "500"}),
        ("chatglm", {"tie_word_embeddings": True}),
        ("chatglm", {"vision_config": {"depth": 2}}),
        ("chatglm", {"padded_vocab_size": True}),
    ],
)
def test_unsupported_config_is_one_line(
    copy: Callable[[str], Path], layout: str, changes: dict[str, Any]
) -> None:
    path = copy(layout)
    edit_json(path / "config.json", **changes)
    incomplete = changes == {"num_hidden_layers": 3}
    one_line_error(lambda: open_checkpoint(path), names="layers.2" if incomplete else "config.json")


def test_bias_that_the_config_denies_is_left_over(copy: Callable[[str], Path]) -> None:
    path = copy("chatglm")
    edit_json(path / "config.json", add_qkv_bias=False)
    one_line_error(lambda: open_checkpoint(path), names="query_key_value.bias")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 1}', b"\xff", b"9" * 5000]
)
def test_config_that_is_no_json_object(copy: Callable[[str], Path], text: bytes) -> None:
    path = copy("glm")
    (path / "config.json").write_bytes(text)
    one_line_error(lambda: open_checkpoint(path), names="config.json")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_file(copy: Callable[[str], Path], missing: str) -> None:
    path = copy("glm")
    (path / missing).unlink()
    one_line_error(lambda: open_checkpoint(path), names=missing)


def test_no_such_directory(tmp_path: Path) -> None:
    one_line_error(lambda: open_checkpoint(tmp_path / "nowhere"), names="nowhere")


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_weights(path)
    change(state)
    for file in path.glob("*.safetensors*"):
        file.unlink()
    write_weights(path, state)


@pytest.mark.parametrize(
    ("layout", "change", "names"),
    [
        ("glm", lambda s: s.pop("model.norm.weight"), "model.norm.weight"),
        ("glm", lambda s: s.pop("model.embed_tokens.weight"), "model.embed_tokens.weight"),
        ("glm", lambda s: s.update(extra=torch.ones(1)), "model.safetensors: extra"),
        (
            "glm",
            lambda s: s.update({"lm_head.weight": torch.ones(64, 300)}),
            "lm_head.weight has shape [64, 300], config.json demands [300, 64]",
        ),
        (
            "glm",
            lambda s: s.update({"lm_head.weight": torch.ones(300, 64, dtype=torch.int8)}),
            "lm_head.weight is int8",
        ),
        ("chatglm", lambda s: s.pop(FUSED), FUSED),
        ("chatglm", lambda s: s.update({FUSED: torch.ones(255, 64)}), "demands [256, 64]"),
        (
            "chatglm",
            lambda s: s.update({"transformer.vision.weight": torch.ones(1)}),
            "transformer.vision.weight",
        ),
    ],
)
def test_tensors_must_be_those_of_the_config(
    copy: Callable[[str], Path], layout: str, change: Callable[..., object], names: str
) -> None:
    path = copy(layout)
    rewrite(path, change)
    one_line_error(lambda: open_checkpoint(path), names=names)


def test_shard_name_too_long_for_any_file(copy: Callable[[str], Path]) -> None:
    path = copy("chatglm")
    index = {"weight_map": {"a": "x" * 5000}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
