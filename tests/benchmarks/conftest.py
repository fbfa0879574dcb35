from __future__ import annotations

from pathlib import Path

import pytest

import tvm_vacc
from tests.frontend.glm_factory import make_glm_checkpoint


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GLM in bf16."""
    directory = tmp_path_factory.mktemp("glm")
    checkpoint = make_glm_checkpoint(directory / "tiny")
    return tvm_vacc.compile(checkpoint, output=directory / "tiny-bf16", dtype="bf16")
