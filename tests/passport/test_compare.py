"""An artefact against checkpoints that differ from its own in one weight."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tvm_vacc
from tests.frontend.glm_factory import load_weights, make_glm_checkpoint, write_weights
from tvm_vacc.errors import ArtifactError, CheckpointError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.passport.compare import LAYER, Difference, compare, tolerance_of
from tvm_vacc.runtime.model import Model

TOKENS = [7, 250, 31, 0, 299, 131, 8, 77, 13, 2, 9]

Changed = Callable[[str], Path]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "own")


@pytest.fixture(scope="module")
def model(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tvm_vacc.compile(own, output=tmp_path_factory.mktemp("out") / "bf16", dtype="bf16")
    loaded = tvm_vacc.load(path)
    assert isinstance(loaded, Model)
    return loaded


@pytest.fixture
def changed(own: Path, tmp_path: Path) -> Changed:
    """Copy the checkpoint with one row of one tensor changed; returns the copy."""

    def change(name: str) -> Path:
        state = load_weights(own)
        state[name][3] += 0.5 * state[name].norm() / state[name][0].numel() ** 0.5
        shutil.copytree(own, tmp_path / "changed")
        write_weights(tmp_path / "changed", state)
        return tmp_path / "changed"

    return change


def first_beyond(model: Model, checkpoint: Path) -> Difference | None:
    found = compare(model, open_checkpoint(checkpoint), TOKENS)
    return next((d for d in found if d.relative_error > tolerance_of(model)), None)


def test_every_operator_agrees_with_its_own_checkpoint(model: Model, own: Path) -> None:
    found = list(compare(model, open_checkpoint(own), TOKENS))
    assert len(found) == 1 + model.spec.layers * len(LAYER) + 2
    assert all(d.relative_error <= tolerance_of(model) for d in found)
    assert all(d.cosine > 0.9995 for d in found)
    names = [d.module for d in found]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "module", "operator"),
    [
        (f"model.layers.{layer}.{tensor}", f"model.layers.{layer}.{module}", operator)
        for layer, tensor, module, operator in [
            (1, "input_layernorm.weight", "input_layernorm", "rms_norm"),
            (0, "self_attn.q_proj.weight", "self_attn.q_proj", "q"),
            (1, "self_attn.k_proj.bias", "self_attn.k_proj", "k"),
            (1, "self_attn.v_proj.weight", "self_attn.v_proj", "v"),
            (0, "self_attn.o_proj.weight", "self_attn.o_proj", "o"),
            (1, "post_attention_layernorm.weight", "post_attention_layernorm", "rms_norm"),
            (0, "mlp.gate_up_proj.weight", "mlp.gate_up_proj", "gate_up"),
            (1, "mlp.down_proj.weight", "mlp.down_proj", "down"),
        ]
    ]
    + [
        ("model.norm.weight", "model.norm", "rms_norm"),
        ("lm_head.weight", "lm_head", "head"),
    ],
)
def test_a_changed_weight_is_named(
    model: Model, changed: Changed, name: str, module: str, operator: str
) -> None:
    found = first_beyond(model, changed(name))
    assert found is not None
    assert (found.module, found.operator) == (module, operator)


def test_a_changed_embedding_is_named(model: Model, own: Path, tmp_path: Path) -> None:
    state = load_weights(own)
    state["model.embed_tokens.weight"][TOKENS[2]] *= 1.5
    shutil.copytree(own, tmp_path / "changed")
    write_weights(tmp_path / "changed", state)
    found = first_beyond(model, tmp_path / "changed")
    assert found is not None
    assert (found.module, found.operator) == ("model.embed_tokens", "embedding")


def test_another_rope_base_is_attention(model: Model, own: Path, tmp_path: Path) -> None:
    shutil.copytree(own, tmp_path / "changed")
    config = tmp_path / "changed" / "config.json"
    assert "5000000.0" in config.read_text()
    config.write_text(config.read_text().replace("5000000.0", "10000.0"))
    found = first_beyond(model, tmp_path / "changed")
    assert found is not None
    assert (found.module, found.operator) == ("model.layers.0.self_attn", "attention")


def test_tied_embeddings(tmp_path: Path) -> None:
    tied = make_glm_checkpoint(tmp_path / "tied", num_hidden_layers=1, tie_word_embeddings=True)
    loaded = tvm_vacc.load(tvm_vacc.compile(tied, output=tmp_path / "out", dtype="bf16"))
    assert isinstance(loaded, Model)
    found = list(compare(loaded, open_checkpoint(tied), TOKENS))
    assert [found[0].module, found[-1].module] == ["model.embed_tokens", "lm_head"]
    assert all(d.relative_error <= tolerance_of(loaded) for d in found)


def test_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    other = make_glm_checkpoint(tmp_path / "other", num_hidden_layers=3)
    with pytest.raises(CheckpointError, match="its layers is 3, the artefact's 2"):
        next(compare(model, open_checkpoint(other), TOKENS))


@pytest.mark.parametrize("names", [(), ("another.exporters.name.weight",)])
def test_an_artefact_that_names_no_weights_is_refused(
    model: Model, own: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    sources = dict.fromkeys(model.manifest.parameters, names)
    monkeypatch.setitem(vars(model.manifest), "sources", sources)
    with pytest.raises(ArtifactError, match=r"computes model\.embed_tokens; compare an artefact"):
        next(compare(model, open_checkpoint(own), TOKENS))


def test_the_tolerance_is_that_of_the_coarsest_weights(model: Model) -> None:
    assert tolerance_of(model) == 1e-2
    assert torch.finfo(torch.bfloat16).eps < tolerance_of(model)
