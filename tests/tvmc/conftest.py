from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tvm_vacc
from tests.tvmc.fakes import FakeGraph, FakeModel, write_artefact
from tvm_vacc.tvmc.main import main


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return write_artefact(tmp_path / "artefact")


@pytest.fixture
def graph_artefact(tmp_path: Path) -> Path:
    return write_artefact(tmp_path / "graph", kind="graph")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel("\n明月几时有？ Ask the moon.")
    monkeypatch.setitem(vars(tvm_vacc), "load", lambda path, threads: fake)  # it is lazy
    return fake


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> FakeGraph:
    fake = FakeGraph()
    monkeypatch.setitem(vars(tvm_vacc), "load", lambda path, threads: fake)  # it is lazy
    return fake


Tvmc = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tvmc(capsys: pytest.CaptureFixture[str]) -> Tvmc:
    """Run the command in this process; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
