"""What is written is read back by the `gguf` package, and computed as llama.cpp's chatglm does."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from benchmarks import gguf_file
from benchmarks.gguf_file import write_gguf
from tests.frontend.glm_factory import load_oracle, load_weights, make_glm_checkpoint
from tvm_vacc.errors import ConfigError, MissingExtraError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.progress import Progress

SMALL = {"hidden_size": 128, "intermediate_size": 96}  # four heads of 32


def write(checkpoint: Path, path: Path, kind: str, head: str | None = None) -> gguf.GGUFReader:
    told: list[Progress] = []
    write_gguf(open_checkpoint(checkpoint), path, kind=kind, head=head, report=told.append)
    assert (told[0].done, told[-1].done) == (0, told[-1].total)
    assert [file.name for file in path.parent.glob("*.gguf*")] == [path.name]
    return gguf.GGUFReader(path)


def tensors(reader: gguf.GGUFReader) -> dict[str, np.ndarray]:
    """Return the numbers of all tensors, fp32."""
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_file_computes_what_transformers_computes(
    dtype: str, tied: bool, tmp_path: Path
) -> None:
    config = {**SMALL, "tie_word_embeddings": tied, "partial_rotary_factor": 0.25}
    checkpoint = make_glm_checkpoint(tmp_path / "glm", dtype=dtype, **config)
    # Weights of 8 bits less are their own bf16; f16 has 11.
    reader = write(checkpoint, tmp_path / "m.gguf", "bf16" if dtype == "bfloat16" else "f16")
    ids = np.random.default_rng(0).integers(0, 300, 37)
    with torch.no_grad():
        expected = load_oracle(checkpoint)(torch.tensor(ids)[None]).logits[0].numpy()
    tolerance = 1e-4 if dtype == "bfloat16" else 2e-2
    np.testing.assert_allclose(chatglm(reader, ids), expected, atol=tolerance)


def chatglm(reader: gguf.GGUFReader, ids: np.ndarray) -> np.ndarray:
    """Compute logits ``[tokens, vocab]`` from the file alone, as llama.cpp's chatglm.cpp does."""

    def number(key: str) -> Any:
        field = reader.get_field(key)
        assert field is not None, key
        return field.contents()

    weights = tensors(reader)
    assert number("general.architecture") == "chatglm"
    assert number("tokenizer.ggml.model") == "none"
    assert number("chatglm.vocab_size") == len(weights["token_embd.weight"])
    heads, kv_heads = (number(f"chatglm.attention.head_count{of}") for of in ("", "_kv"))
    epsilon = number("chatglm.attention.layer_norm_rms_epsilon")
    rotary, base = number("chatglm.rope.dimension_count"), number("chatglm.rope.freq_base")
    hidden_size = number("chatglm.embedding_length")
    dim = hidden_size // heads

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weights[f"{name}.weight"]

    def project(x: np.ndarray, name: str, count: int) -> np.ndarray:
        out = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return out.reshape(len(x), count, dim).swapaxes(0, 1)

    def rope(x: np.ndarray) -> np.ndarray:
        """Turn neighbouring pairs: ggml's GGML_ROPE_TYPE_NORMAL."""
        angles = np.arange(len(ids))[:, None] * base ** (-np.arange(0, rotary, 2) / rotary)
        even, odd = x[..., 0:rotary:2].copy(), x[..., 1:rotary:2].copy()
        x[..., 0:rotary:2] = even * np.cos(angles) - odd * np.sin(angles)
        x[..., 1:rotary:2] = even * np.sin(angles) + odd * np.cos(angles)
        return x

    x = weights["token_embd.weight"][ids].astype(np.float64)
    future = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for layer in range(number("chatglm.block_count")):
        block = f"blk.{layer}"
        y = norm(x, f"{block}.attn_norm")
        query = rope(project(y, f"{block}.attn_q", heads))
        key, value = (
            np.repeat(each, heads // kv_heads, 0)
            for each in (
                rope(project(y, f"{block}.attn_k", kv_heads)),
                project(y, f"{block}.attn_v", kv_heads),
            )
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(dim) + future
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ value
        attended = mixed.swapaxes(0, 1).reshape(len(ids), -1)
        x = x + attended @ weights[f"{block}.attn_output.weight"].T
        both = norm(x, f"{block}.ffn_norm") @ weights[f"{block}.ffn_up.weight"].T
        assert both.shape[1] == 2 * number("chatglm.feed_forward_length")
        gate, up = np.split(both, 2, axis=1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{block}.ffn_down.weight"].T
    head = weights.get("output.weight", weights["token_embd.weight"])
    return norm(x, "output_norm") @ head.T


@pytest.mark.parametrize(("kind", "levels"), [("q8_0", 254), ("q4_0", 15)])
def test_quantised_weights_are_near_the_checkpoints(
    kind: str, levels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", **SMALL)
    whole = write(checkpoint, tmp_path / "whole" / "m.gguf", kind)
    found, original = tensors(whole), load_weights(checkpoint)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.CHATGLM, 2)
    assert len(found) == len(original)
    for name, tensor in original.items():
        stored = names.get_name(name, (".weight", ".bias"))
        values = tensor.float().numpy()
        if values.ndim == 1:
            np.testing.assert_array_equal(found[stored], values)
            continue
        blocks = values.reshape(-1, 32)
        step = 2 * np.abs(blocks).max(1, keepdims=True) / levels
        error = np.abs(found[stored].reshape(-1, 32) - blocks)
        # Scales are fp16; q4_0 has a code less on the side opposite to the largest weight.
        assert (error <= step * (1.16 if kind == "q4_0" else 0.57)).all(), name
        assert error.max() > 0

    monkeypatch.setattr(gguf_file, "CHUNK_NUMBERS", 1000)
    write(checkpoint, tmp_path / "pieces" / "m.gguf", kind)
    files = [(tmp_path / name / "m.gguf").read_bytes() for name in ("whole", "pieces")]
    assert files[0] == files[1]


def test_the_head_may_have_another_type(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", **SMALL)
    reader = write(checkpoint, tmp_path / "m.gguf", "q4_0", head="q8_0")
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["output.weight"] == "Q8_0"
    assert types["token_embd.weight"] == types["blk.1.ffn_down.weight"] == "Q4_0"
    assert types["blk.0.attn_k.bias"] == types["output_norm.weight"] == "F32"


def test_what_llama_cpp_cannot_have_is_one_line(tmp_path: Path) -> None:
    narrow = make_glm_checkpoint(tmp_path / "narrow")  # four heads of 32, 64 wide
    with pytest.raises(ConfigError, match=r"config\.json: 4 heads of 32 are not hidden_size 64"):
        write(narrow, tmp_path / "m.gguf", "f16")
    odd = make_glm_checkpoint(tmp_path / "odd", **{**SMALL, "intermediate_size": 72})
    with pytest.raises(ConfigError, match="intermediate_size is 72, no multiple of 32"):
        write(odd, tmp_path / "m.gguf", "bf16", head="q8_0")
    write(odd, tmp_path / "m.gguf", "bf16")


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", **SMALL)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 10))
    with pytest.raises(ConfigError, match=r"GB are to be written, 0\.0 GB are free"):
        write(checkpoint, tmp_path / "m.gguf", "f16")
    assert not list(tmp_path.glob("*.gguf*"))


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"gguf, which is not installed; pip install"):
        importlib.reload(gguf_file)
