"""A child that tells its progress, is refused, prints, fails, and dies."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tvm_vacc import child_process
from tvm_vacc.child_process import ChildEndedError, run_child
from tvm_vacc.errors import CheckpointError
from tvm_vacc.progress import Progress

CHILD = """
import os, sys
from tvm_vacc.child_process import do_work
from tvm_vacc.errors import CheckpointError
from tvm_vacc.progress import Progress

def work(report):
    print("a library says something")
    os.write(1, b"and so does one written in C\\n")
    report(Progress("some", 1, 3, "steps", "a note"))
    how = sys.argv[1]
    if how == "refuse":
        raise CheckpointError("a: wrong", "right it")
    if how == "fail":
        raise KeyError("no such thing")
    if how == "die":
        os.kill(os.getpid(), int(sys.argv[2]))
    report(Progress("some", 3, 3, "steps"))

sys.exit(do_work(work))
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "the_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "the_child"


def test_tells_its_progress_and_nothing_of_what_is_printed(child: str) -> None:
    told: list[Progress] = []
    run_child(child, "go", report=told.append)
    assert told == [Progress("some", 1, 3, "steps", "a note"), Progress("some", 3, 3, "steps")]


def test_an_error_of_the_users_keeps_class_and_cure(child: str) -> None:
    with pytest.raises(CheckpointError) as refused:
        run_child(child, "refuse")
    assert (refused.value.message, refused.value.cure) == ("a: wrong", "right it")


def test_a_fault_is_its_last_line(child: str) -> None:
    with pytest.raises(ChildEndedError, match="KeyError: 'no such thing'") as ended:
        run_child(child, "fail")
    assert ended.value.signal == 0


def test_a_signal_is_named(child: str) -> None:
    with pytest.raises(ChildEndedError) as ended:
        run_child(child, "die", str(int(signal.SIGILL)))
    assert ended.value.signal == signal.SIGILL


def test_a_child_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildEndedError, match="exit code 1"):
        run_child("anything")


def test_torch_that_is_not_installed_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(child_process, "find_spec", lambda _name: None)
    with pytest.raises(ModuleNotFoundError) as missing:
        child_process.has_torch()
    assert missing.value.name == "torch"
