"""The export in a process of its own: the same file, the same errors, and torch stays out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc.errors import CheckpointError, OnnxError
from tvm_vacc.steps import export_process

EXPORT = """
import sys
from pathlib import Path
from tvm_vacc.errors import VaccError
from tvm_vacc.steps.export_process import export_graph
try:
    export_graph(Path(sys.argv[1]), Path(sys.argv[2]))
except VaccError as error:
    sys.exit(f"{type(error).__name__}: {error}")
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", num_hidden_layers=1)


def export(checkpoint: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EXPORT, str(checkpoint), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_both_ways_write_the_same_and_one_imports_no_torch(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    done = export(checkpoint, tmp_path / "a" / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "torch" in sys.modules  # the factory needs it: so this runs here
    export_process.export_graph(checkpoint, tmp_path / "b" / "model.onnx")
    files = [(tmp_path / name / "model.onnx").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_an_error_of_the_users_keeps_class_and_cure(tmp_path: Path) -> None:
    done = export(tmp_path / "nowhere", tmp_path / "model.onnx")
    assert done.stderr.strip() == (
        f"CheckpointError: {tmp_path / 'nowhere'}: no such directory; give a checkpoint's directory"
    )
    with pytest.raises(CheckpointError, match="no such directory"):
        export_process.export_graph(tmp_path / "nowhere", tmp_path / "model.onnx")


def test_a_child_that_dies_is_one_line(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(OnnxError, match="the export ended: exit code 1"):
        export_process.export_graph(checkpoint, tmp_path / "model.onnx")


def test_the_child_ends_with_its_parent(checkpoint: Path, tmp_path: Path) -> None:
    """As seen by Linux, where /proc tells the children of a process."""
    command = [sys.executable, "-c", EXPORT, str(checkpoint), str(tmp_path / "model.onnx")]
    parent = subprocess.Popen(command)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 60
    while not (found := children.read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)  # until the child listens
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while lives(Path(f"/proc/{found[0]}")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "model.onnx").exists()


def lives(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
