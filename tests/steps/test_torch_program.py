"""The export of torch programs by a process of their own: the same file, and torch stays out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tvm_vacc.errors import OnnxError
from tvm_vacc.steps.torch_program import make_torch_graph

EXPORT = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # which tvm-ffi would import
import tvm_vacc.steps.torch_program
del sys.modules["torch"]
from tvm_vacc.errors import VaccError
try:
    tvm_vacc.steps.torch_program.make_torch_graph(*map(Path, sys.argv[1:]), lambda _: None)
except VaccError as error:
    sys.exit(f"{type(error).__name__}: {error}")
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "linear.pt2"
    exported = torch.export.export(torch.nn.Linear(3, 2).eval(), (torch.ones(1, 3),))
    torch.export.save(exported, path)
    return path


def command(program: Path, path: Path) -> list[str]:
    return [sys.executable, "-c", EXPORT, str(program), str(path)]


def test_both_ways_write_the_same_and_one_imports_no_torch(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(program, tmp_path / "a" / "model.onnx"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    make_torch_graph(program, tmp_path / "b" / "model.onnx", lambda _: None)
    files = [(tmp_path / name / "model.onnx").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_an_error_of_the_users_keeps_class_and_cure(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"no program")
    done = subprocess.run(
        command(broken, tmp_path / "model.onnx"), capture_output=True, text=True, check=False
    )
    with pytest.raises(OnnxError) as refused:
        make_torch_graph(broken, tmp_path / "model.onnx", lambda _: None)
    assert done.stderr.strip() == f"OnnxError: {refused.value}"


def test_a_child_that_dies_is_one_line(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(OnnxError, match="the export ended: exit code 1"):
        make_torch_graph(program, tmp_path / "model.onnx", lambda _: None)


def test_the_child_ends_with_its_parent(program: Path, tmp_path: Path) -> None:
    """As seen by Linux, where /proc tells the children of a process."""
    parent = subprocess.Popen(command(program, tmp_path / "model.onnx"))
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
