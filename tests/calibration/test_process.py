"""Calibration in a process of its own: the same files, progress on the way, the same errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc.calibration.options import CalibrationOptions, CodesWanted
from tvm_vacc.calibration.process import run_calibration
from tvm_vacc.errors import ConfigError
from tvm_vacc.progress import Progress

SAMPLES = np.random.default_rng(0).integers(0, 300, (3, 20))
WANTED = CodesWanted(4, 32, head=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_glm_checkpoint(tmp_path / "glm", num_hidden_layers=1)


def test_a_child_makes_the_same_files(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    here, child = tmp_path / "here", tmp_path / "child"
    for directory in (here, child):
        directory.mkdir()
    options = CalibrationOptions(act_order=True)
    run_calibration(checkpoint, SAMPLES, WANTED, options, here, told.append)
    monkeypatch.delitem(sys.modules, "torch")
    run_calibration(checkpoint, SAMPLES, WANTED, options, child, told.append)
    for name in ("layer.0000.safetensors", "head.safetensors"):
        assert (here / name).read_bytes() == (child / name).read_bytes()
    assert told[:3] == told[3:]
    assert [(progress.done, progress.total) for progress in told[:3]] == [(0, 2), (1, 2), (2, 2)]


def test_an_error_of_the_users_crosses_over(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    options = CalibrationOptions(device="cuda:99")
    with pytest.raises(ConfigError, match=r"device: no cuda:99 here, torch finds .*; write device"):
        run_calibration(checkpoint, SAMPLES, WANTED, options, tmp_path, lambda _: None)
