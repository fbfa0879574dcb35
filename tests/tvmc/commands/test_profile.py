from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tvmc.commands.test_run import inputs  # noqa: F401 # a fixture
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import FakeGraph, FakeModel
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime import profile
from tvm_vacc.runtime.profile import KernelProfile, Profile

PROFILE = Profile(
    2e-3,
    (
        KernelProfile("linear", "bfloat16 4 x 8", 5, 1.5e-3, 3_000_000, 30_000_000),
        KernelProfile("add", "", 1, 0.25e-3, 500_000, 0),
    ),
)


def test_shows_what_each_kernel_takes(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(profile, "profile_model", lambda _, **step: asked.append(step) or PROFILE)
    code, out, err = tvmc("profile", artefact, "--context", 7, "--tokens", 2, "--batch", 3)
    assert (code, err) == (0, "")
    assert asked == [{"context": 7, "tokens": 2, "batch": 3, "rounds": 10}]
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["linear", "bfloat16", "4", "x", "8", "5", "1500.0", "us", "75.0%", "2.0", "20.0"],
        ["add", "1", "250.0", "us", "12.5%", "2.0"],
    ]
    assert out.splitlines()[3].startswith("The run takes 2.000 ms; the kernels explain 87.5% of it")


def test_a_step_too_large_is_one_line(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Profile:
        raise RequestError("too much", "give less")

    monkeypatch.setattr(profile, "profile_model", refuse)
    code, _, err = tvmc("profile", artefact)
    assert (code, err) == (4, "Error: too much; give less\n")


def test_a_plain_graph_is_profiled_by_run(
    tvmc: Tvmc,
    graph: FakeGraph,
    graph_artefact: Path,
    inputs: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[int] = []
    monkeypatch.setattr(
        profile,
        "profile_graph",
        lambda _, arrays, rounds_=rounds, **o: rounds_.append(o) or PROFILE,
    )
    code, out, _ = tvmc("run", graph_artefact, "--inputs", inputs, "--profile", "--repeat", 4)
    assert code == 0
    assert rounds == [{"rounds": 4}]
    assert "linear" in out
