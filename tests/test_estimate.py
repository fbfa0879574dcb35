"""Estimates are held against what the arithmetic of the format gives for a 9B and a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tvm_vacc
from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc import estimate as module
from tvm_vacc.artifact.manifest import read_manifest
from tvm_vacc.config import Config
from tvm_vacc.errors import ArtifactError, ConfigError
from tvm_vacc.estimate import Estimate, estimate, require_room
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.planned_storage import Storage
from tvm_vacc.quantize.scheme import W4A16, W8A16, Quantization


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", num_hidden_layers=1)


def test_reads_the_checkpoint_once_and_counts_the_cache(checkpoint: Path) -> None:
    options = Config.for_checkpoint(checkpoint, dtype="bf16").compile_options
    found = estimate(options)
    opened = open_checkpoint(checkpoint)
    spec = opened.spec
    assert found.read == sum(ref.nbytes for ref in opened.tensors.values())
    assert found.kv_token == 2 * spec.layers * spec.kv_heads * spec.head_dim * 2
    assert found.memory > estimate(replace(options, workers=1)).memory - 1


@pytest.mark.parametrize(
    ("name", "shape", "quantized", "want"),
    [
        ("model.norm.weight", (4096,), False, 4 * 4096),
        ("model.embed_tokens.weight", (151552, 4096), False, 2 * 151552 * 4096),
        ("model.embed_tokens.weight", (151552, 4096), True, 151552 * (4096 + 4)),
        ("lm_head.weight", (151552, 4096), True, 2 * 151552 * 4096),
        ("a.weight", (65, 64), False, 2 * 128 * 64),
        ("a.weight", (4096, 13696), True, 4096 * (13696 + 4)),
    ],
)
def test_bytes_of_a_tensor(
    checkpoint: Path, name: str, shape: tuple[int, ...], quantized: bool, want: int
) -> None:
    how = Quantization("w8a16", W8A16, "round_to_nearest", 32, head=None, embedding=True)
    options = Config.for_checkpoint(checkpoint, dtype="bf16").compile_options
    options = replace(options, quantization=how if quantized else None)
    assert Storage(options, "bfloat16").one(name, shape).bytes == want


def test_room_is_what_is_free_and_what_the_cache_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 5 << 20

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _path: Usage)
    needed = Estimate(read=0, weights=9 << 20, kv_token=0, memory=0)
    with pytest.raises(ArtifactError, match="the weights need 9 MiB, 5 MiB are free"):
        require_room(needed, tmp_path)
    begun = tmp_path / ".tvm_vacc_cache" / "weights" / "k.part"
    begun.mkdir(parents=True)
    (begun / "weights.safetensors").write_bytes(bytes(4 << 20))
    require_room(needed, tmp_path)


def test_what_each_kind_of_tensor_becomes(checkpoint: Path) -> None:
    how = Quantization("w4a16", W4A16, "round_to_nearest", 32, head=None, embedding=True)
    options = Config.for_checkpoint(checkpoint, dtype="bf16").compile_options
    found = estimate(replace(options, quantization=how))
    spec = open_checkpoint(checkpoint).spec
    stored = {weights.kind: weights for weights in found.storage}
    assert {kind: one.stored_as for kind, one in stored.items()} == {
        "linear": "w4a16",
        "head": "bf16",
        "embedding": "w8a16",
        "other": "fp32",
    }
    assert stored["linear"].matrices == 6 * spec.layers
    assert stored["linear"].group_size == 32
    assert stored["linear"].quantizer == "round_to_nearest"
    assert 4 + 16 / 32 <= stored["linear"].bits <= 5.5
    assert sum(one.bytes for one in found.storage) <= found.weights
    assert sum(one.weights for one in found.storage) == found.numbers


def test_the_estimate_is_what_the_artefact_holds(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(
        tmp_path / "tied", num_hidden_layers=1, tie_word_embeddings=True
    )
    options = Config.for_checkpoint(checkpoint, dtype="bf16").compile_options
    path = tvm_vacc.compile(checkpoint, dtype="bf16", output=tmp_path / "out")
    manifest = read_manifest(path / "manifest.json")
    assert estimate(options).storage == manifest.storage
    written = sum(manifest.files[name].bytes for name in manifest.weights)
    assert 0 <= written - estimate(options).weights < 64 << 10  # the header, and what aligns it


def test_groups_that_do_not_divide_are_refused_before_any_work(checkpoint: Path) -> None:
    how = Quantization("w4a16", W4A16, "round_to_nearest", 128, head=None, embedding=False)
    options = Config.for_checkpoint(checkpoint).compile_options
    with pytest.raises(ConfigError, match=r"group_size: 128 does not divide the 64 inputs of mo"):
        estimate(replace(options, quantization=how))


def test_calibration_of_glm_4_9b() -> None:
    """A layer took 200 s of CPU time on two cores and 5.6 GB, of random weights on 4,096 tokens."""
    shapes = ((4096, 4096), (256, 4096), (256, 4096), (4096, 4096), (27392, 4096), (4096, 13696))
    numbers = sum(out * into for out, into in shapes)
    layer = Estimate(
        *(0, 0, 0, 0), numbers=numbers, largest_layer=numbers, calibrated=shapes, hidden=4096
    )
    assert 100 < layer.calibration_seconds(4096) < 300
    assert 5.6e9 < layer.calibration_memory(4096) < 7e9


def test_more_tokens_and_more_weights_take_longer(checkpoint: Path) -> None:
    small = estimate(Config.for_checkpoint(checkpoint).compile_options)
    large = replace(small, numbers=9_400_000_000, read=18_800_000_000, layers=40)
    assert large.seconds > small.seconds
    assert large.reference_seconds(512) > large.reference_seconds(256)
    assert small.reference_memory < 2 << 30
