from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import synthetic
from benchmarks.glm4_9b import CONFIG
from benchmarks.synthetic import write_checkpoint
from tests.frontend.glm_factory import load_oracle, load_weights
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.progress import Progress

SMALL = {
    **CONFIG,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 40,
    "num_attention_heads": 4,
    "head_dim": 32,
    "vocab_size": 151552 // 100,
    "pad_token_id": 3,
    "eos_token_id": [1, 2],
}


@pytest.fixture
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SHARD_BYTES", 1_000_000)
    monkeypatch.setattr(synthetic, "CHUNK_BYTES", 1 << 14)


def make(directory: Path, seed: int = 0, **config: Any) -> list[Progress]:
    told: list[Progress] = []
    write_checkpoint(directory, {**SMALL, **config}, seed=seed, report=told.append)
    return told


@pytest.mark.usefixtures("many_shards")
def test_is_a_sharded_checkpoint_whose_activations_stay_finite(tmp_path: Path) -> None:
    told = make(tmp_path / "glm")
    assert open_checkpoint(tmp_path / "glm").spec.layers == 40
    weights = load_weights(tmp_path / "glm")
    files = list((tmp_path / "glm").glob("*.safetensors"))
    index = json.loads((tmp_path / "glm" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(weights)
    assert len(files) == len(set(index["weight_map"].values())) > 3
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in weights.values())
    assert (told[0].done, told[-1].done) == (0, told[-1].total)

    for name, tensor in weights.items():
        values = tensor.float()
        if name.endswith("norm.weight"):
            assert 1 <= values.min() <= values.max() < 1.125
        elif tensor.ndim == 2 and name not in ("lm_head.weight", "model.embed_tokens.weight"):
            scaled = float(values.std()) * tensor.shape[1] ** 0.5
            assert 0.7 < scaled < 1.42, name  # the exponent is rounded to a power of two
    ids = torch.arange(1, 65)[None]
    with torch.no_grad():
        out = load_oracle(tmp_path / "glm")(ids, output_hidden_states=True)
    assert max(float(state.abs().max()) for state in out.hidden_states) < 1000
    assert 1 < float(out.logits.std()) < 20
    assert len(set(out.logits.argmax(-1).flatten().tolist())) > 8


@pytest.mark.usefixtures("many_shards")
def test_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    make(tmp_path / "whole", num_hidden_layers=8)
    make(tmp_path / "again", num_hidden_layers=8)
    first, second, *_ = sorted((tmp_path / "again").glob("*.safetensors"))
    second.unlink()
    first_time = first.stat().st_mtime_ns
    told = make(tmp_path / "again", num_hidden_layers=8)
    assert first.stat().st_mtime_ns == first_time
    assert 0 < told[0].done < told[0].total
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.usefixtures("many_shards")
def test_another_seed_makes_other_weights(tmp_path: Path) -> None:
    make(tmp_path, num_hidden_layers=1)
    before = load_weights(tmp_path)["lm_head.weight"]
    make(tmp_path, seed=1, num_hidden_layers=1)
    after = load_weights(tmp_path)["lm_head.weight"]
    assert np.mean(np.asarray((before != after).numpy())) > 0.9


def test_another_model_in_the_directory_is_one_line(tmp_path: Path) -> None:
    make(tmp_path, num_hidden_layers=1)
    with pytest.raises(ConfigError, match=r"config\.json: is of another model"):
        make(tmp_path, num_hidden_layers=2)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 10))
    with pytest.raises(ConfigError, match=r"GB are to be written, 0\.0 GB are free"):
        make(tmp_path)
    assert not list(tmp_path.glob("*.safetensors*"))
