"""kill -9 in the middle of a compile leaves the old artefact, whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc.artifact.store import open_artifact


@pytest.mark.slow
def test_a_killed_compile_leaves_the_old_artefact(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", num_hidden_layers=1)
    output = tmp_path / "artefact"
    command = [sys.executable, "-m", "tvm_vacc.tvmc", "compile", str(checkpoint), "-o", str(output)]
    subprocess.run([*command, "--dtype", "fp32"], check=True, capture_output=True)
    old = open_artifact(output, verify=True).manifest.files
    killed = 0
    for seconds in range(1, 40, 2):
        process = subprocess.Popen(
            [*command, "--dtype", "bf16"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        now = open_artifact(output, verify=True).manifest
        if process.returncode == 0:
            assert now.dtype == "bf16"
            break
        killed += 1
        assert now.dtype == "bf16" or now.files == old
    assert killed >= 3
    assert process.returncode == 0, "no compile came to its end"
    left = {path.name for path in tmp_path.iterdir()}
    assert not [name for name in left if ".tmp-" in name], left
