"""A language model that someone else has exported: compiled from its .onnx file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GlmConfig

import tvm_vacc
from tests.frontend.hf_export import Positions, TinyGlm, export_hf, traced
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.errors import CheckpointError, ConfigError, OnnxError
from tvm_vacc.runtime.model import Model

GLM = TinyGlm(layers=1)


def save_config(config: GlmConfig, directory: Path) -> None:
    config.eos_token_id = [1]  # the default ones lie beyond this small vocabulary
    config.save_pretrained(directory)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("foreign")
    return export_hf(GLM, directory / "model.onnx", 18)


def assert_transformers_logits(artefact: Path, glm: TinyGlm) -> None:
    model = tvm_vacc.load(artefact)
    assert isinstance(model, Model)
    tokens = np.random.default_rng(0).integers(0, glm.vocab, 40).tolist()
    with torch.no_grad():
        want = traced(glm)[0](torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(tokens), want, atol=1e-4, rtol=0)


def test_hugging_face_export_gives_transformers_logits(exported: Path, tmp_path: Path) -> None:
    oracle, _ = traced(GLM)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        tvm_vacc.compile(exported, output=tmp_path / "out")
    save_config(oracle.config, exported.parent)
    artefact = tvm_vacc.compile(exported, output=tmp_path / "out", prefill=16, context=64)
    assert_transformers_logits(artefact, GLM)
    (onnxsim,) = (p for p in read_manifest(artefact / MANIFEST_NAME).passes if p.name == "onnxsim")
    before, after = map(int, re.findall(r"\d+", onnxsim.note))
    assert onnxsim.note == f"{before} nodes before, {after} after"
    assert onnxsim.matches == before - after > before // 2


@pytest.mark.parametrize(("positions", "opset"), [("past", 23), ("mask", 18)])
def test_an_export_that_computes_positions_itself(
    tmp_path: Path, positions: Positions, opset: int
) -> None:
    """Prompts of 40 tokens in steps of 16: positions after the first step depend on the past."""
    path = export_hf(GLM, tmp_path / "model.onnx", opset, positions=positions)
    save_config(traced(GLM)[0].config, tmp_path)
    artefact = tvm_vacc.compile(path, output=tmp_path / "out", prefill=16, context=64)
    assert_transformers_logits(artefact, GLM)


def test_static_shapes_of_a_language_model_are_refused(exported: Path, tmp_path: Path) -> None:
    save_config(traced(GLM)[0].config, exported.parent)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: x\nfrontend: {{checkpoint: {exported}, type: onnx, "
        "shape: {input_ids: [1, 77]}}\n"
        "backend: {type: tvm_vacc, dtype: fp32}\nworkspace: {path: out}\n"
    )
    with pytest.raises(ConfigError, match=r"frontend\.shape\.input_ids: .* any length"):
        tvm_vacc.compile(config)


def test_a_config_of_another_model_is_refused(exported: Path, tmp_path: Path) -> None:
    save_config(TinyGlm(layers=2).model().config, exported.parent)
    with pytest.raises(OnnxError, match=r"2 inputs past_key_values\.\*, .* 2 layers"):
        tvm_vacc.compile(exported, output=tmp_path / "out")
