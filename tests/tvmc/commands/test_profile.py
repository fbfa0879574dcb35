from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tvmc.commands.test_run import inputs  # noqa: F401 # a fixture
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import FakeGraph, FakeModel
from tvm_vacc.errors import RequestError
from tvm_vacc.machine import limits
from tvm_vacc.machine.speeds import Speeds
from tvm_vacc.runtime import profile
from tvm_vacc.runtime.profile import KernelProfile, Profile

PROFILE = Profile(
    2e-3,
    1.9e-3,
    (
        KernelProfile("linear", "bfloat16 4 x 8", 5, 1.5e-3, 3_000_000, 30_000_000),
        KernelProfile("add", "", 1, 0.25e-3, 500_000, 0),
    ),
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are known: 4 GB/s, 80 GFLOPS."""
    speeds = Speeds(4e9, {"fp32": 80e9})
    monkeypatch.setattr(limits, "Limits", lambda _: SimpleNamespace(measure=lambda: speeds))


def test_shows_what_each_kernel_takes(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(profile, "profile_model", lambda _, **step: asked.append(step) or PROFILE)
    code, out, err = tvmc("profile", artefact, "--context", 7, "--tokens", 2, "--batch", 3)
    assert (code, err) == (0, "")
    assert asked == [{"context": 7, "tokens": 2, "batch": 3, "rounds": 10}]
    lines = out.splitlines()
    weight = ["bfloat16", "4", "x", "8"]
    assert lines[1].split() == [
        *("linear", *weight, "5", "1500.0", "us", "75.0%", "2.0", "20.0", "memory", "50%")
    ]
    assert lines[2].split() == ["add", "1", "250.0", "us", "12.5%", "2.0", "memory", "50%"]
    assert lines[3] == (
        "The run takes 2.000 ms: kernels 87.5%, the virtual machine 7.5%, Python 5.0%; together "
        "100.0%."
    )
    assert lines[4].startswith("Limits, measured before and after: reading 4.0 GB/s, fp32 80 GF")


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
