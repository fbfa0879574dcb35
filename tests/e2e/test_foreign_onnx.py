"""A language model that someone else has exported: compiled from its .onnx file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GlmConfig

import tvm_vacc
from tests.frontend.hf_export import TinyGlm, export_hf, traced
from tvm_vacc.errors import CheckpointError, OnnxError
from tvm_vacc.runtime.model import Model

GLM = TinyGlm(layers=1)


def save_config(config: GlmConfig, directory: Path) -> None:
    config.eos_token_id = [1]  # the default ones lie beyond this small vocabulary
    config.save_pretrained(directory)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("foreign")
    return export_hf(GLM, directory / "model.onnx", 18)


def test_hugging_face_export_gives_transformers_logits(exported: Path, tmp_path: Path) -> None:
    oracle, _ = traced(GLM)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        tvm_vacc.compile(exported, output=tmp_path / "out")
    save_config(oracle.config, exported.parent)
    artefact = tvm_vacc.compile(exported, output=tmp_path / "out", prefill=16, context=64)
    model = tvm_vacc.load(artefact)
    assert isinstance(model, Model)
    tokens = np.random.default_rng(0).integers(0, GLM.vocab, 40).tolist()
    with torch.no_grad():
        want = oracle(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(model.logits(tokens), want, atol=1e-4, rtol=0)


def test_a_config_of_another_model_is_refused(exported: Path, tmp_path: Path) -> None:
    save_config(TinyGlm(layers=2).model().config, exported.parent)
    with pytest.raises(OnnxError, match=r"2 inputs past_key_values\.\*, .* 2 layers"):
        tvm_vacc.compile(exported, output=tmp_path / "out")
