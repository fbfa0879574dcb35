from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.relay.models import answers, image_model

SCRIPT = Path(__file__).with_name("old_script.py")


def check(model: onnx.ModelProto, directory: Path) -> None:
    result = np.load(directory / "result.npz")
    [expected] = answers(model, image=result["image"])
    np.testing.assert_allclose(result["first"], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(result["second"], expected, rtol=0, atol=1e-4)


def test_a_script_of_old_runs_as_a_process(tmp_path: Path) -> None:
    model = image_model()
    onnx.save(model, tmp_path / "model.onnx")
    arguments = [str(tmp_path / "model.onnx"), str(tmp_path), "tvm_vacc -mcpu=native"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "mean (ms)" in done.stdout
    check(model, tmp_path)


@pytest.mark.parametrize("target", ["llvm", "llvm -mcpu=native", "tvm_vacc, llvm -mcpu=native"])
def test_it_runs_for_every_target(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = image_model()
    onnx.save(model, tmp_path / "model.onnx")
    arguments = [str(tmp_path / "model.onnx"), str(tmp_path), target]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT))
    check(model, tmp_path)
