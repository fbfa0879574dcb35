"""A config that is right, and the loading of one with something changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_vacc.config import Config, load_config

BASE = """\
name: glm-test
frontend:
  checkpoint: model
  type: huggingface
  shape:
    input_ids: [[1024], [2048]]
  model_kwargs:
    tp: 1
backend:
  type: tvm_vacc
  dtype: fp16
workspace:
  path: out
  workers: 4
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "graph.onnx").write_bytes(b"")
    return tmp_path


def load(folder: Path, text: str) -> Config:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)
