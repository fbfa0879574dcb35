"""A plain ONNX graph as C: built by its own CMakeLists.txt, run by its example program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import tvm_vacc
from tests.codegen_c.c_build import build_with_cmake
from tests.relay.models import answers, mlp_model

BATCHES = (1, 7)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("graph")
    path = directory / "model.onnx"
    onnx.save(mlp_model(), path)
    tvm_vacc.compile(path, output=directory / "c", target="tvm_vacc/c", passport=False)
    return directory


def test_it_answers_as_onnx_runtime_does(directory: Path, tmp_path: Path) -> None:
    package, model = directory / "c", onnx.load(directory / "model.onnx")
    program = build_with_cmake(package, tmp_path / "build") / "vacc_run"
    files = [tmp_path / name for name in ("x", "y", "mean")]
    for batch in BATCHES:
        x = np.random.default_rng(batch).standard_normal((batch, 17), dtype=np.float32)
        x.tofile(files[0])
        subprocess.run([program, package, str(batch), *files], check=True)
        for path, want in zip(files[1:], answers(model, x=x), strict=True):
            got = np.fromfile(path, np.float32).reshape(want.shape)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    for arguments, status, complaint in (
        ([], 2, "x: [batch, 17] f32"),
        ([package, "8", *files], 1, "another size"),
        ([package, "-1", *files], 1, "no dimension"),
        ([tmp_path, "7", *files], 1, "is missing"),
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == status
        assert complaint in done.stderr
