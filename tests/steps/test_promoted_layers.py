"""Layers whose keys or values do not fit fp16 keep their KV cache in bf16, and are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import tvm_vacc
from tests.passport.models import config_of, make_speaking_checkpoint, passport_of
from tests.tvmc.conftest import Tvmc, tvmc  # noqa: F401 # a fixture
from tvm_vacc import compiler
from tvm_vacc.artifact.manifest import read_manifest
from tvm_vacc.codegen.options import BuildWatch
from tvm_vacc.errors import ConfigError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dimension of a layer's heads, which does not turn, is 100,000 at all positions."""
    folder = tmp_path_factory.mktemp("promoted")
    large = make_speaking_checkpoint(folder / "large", num_hidden_layers=3)
    weights = load_file(large / "model.safetensors")
    weights["model.layers.1.self_attn.k_proj.bias"][20] = 1e5
    weights["model.layers.2.self_attn.v_proj.bias"][20] = 1e5
    # What it adds to every token must not drown the rest.
    weights["model.layers.2.self_attn.o_proj.weight"][:, 20] = 0
    weights["model.layers.2.self_attn.o_proj.weight"][:, 32 + 20] = 0
    save_file(weights, large / "model.safetensors")
    return config_of(large, folder)


def test_layers_that_overflow_fp16_are_promoted_and_named(
    tvmc: Tvmc,  # noqa: F811
    config: Path,
) -> None:
    artefact = tvm_vacc.compile(config)
    manifest = read_manifest(artefact / "manifest.json")
    assert [cache.dtype for cache in manifest.caches] == ["float16"] * 2 + ["bfloat16"] * 4
    passport = passport_of(artefact)
    assert passport.promoted == (1, 2)
    assert passport.accuracy is not None
    assert passport.accuracy.kl_mean < 5e-3  # bf16 rounds the large dimension, and it alone
    reports = {report.name: report.note for report in manifest.passes}
    assert reports["rewrite_kv_cache"] == (
        "layers 1, 2 in bfloat16, whose keys or values may overflow float16"
    )
    code, out, _ = tvmc("inspect", artefact)
    assert code == 0
    assert "bfloat16; layer 0 float16, " in out
    assert "KV cache of layers 1, 2: keys or values near the end of fp16" in out


def test_a_pass_that_does_not_exist_is_refused_before_the_reference_runs(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(compiler, "promoted_layers", never)
    with pytest.raises(ConfigError, match="there is no pass nosuch"):
        tvm_vacc.compile(config, watch=BuildWatch(print_after=("nosuch",)))
