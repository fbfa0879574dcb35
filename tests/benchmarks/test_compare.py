from __future__ import annotations

import sys
from math import prod
from pathlib import Path

import pytest
from safetensors import safe_open

from benchmarks import compare
from benchmarks.results import ModelResults
from benchmarks.system import Start, SystemProcess
from benchmarks.work import decode_point, prefill_point
from tests.benchmarks.made_up import RUN, SPEEDS, FakeLimits
from tests.schedules.kernel_harness import HOST_TARGETS
from tvm_vacc.artifact.manifest import read_manifest
from tvm_vacc.errors import ConfigError
from tvm_vacc.machine import limits
from tvm_vacc.machine.setup import Setup

POINTS = [decode_point(20, 1), decode_point(16, 3), prefill_point(17), decode_point(10**6, 1)]


@pytest.fixture
def results(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> ModelResults:
    class Recorded(FakeLimits):
        history = (SPEEDS,)

    monkeypatch.setattr(compare, "Limits", lambda _: Recorded(SPEEDS))
    ours = Start("ours", sys.executable, artefact, 1)
    setup = Setup(HOST_TARGETS["native"], 1)
    return compare.compare(RUN, setup, [ours, ours], POINTS, 2, 1, show=print)


def test_systems_are_measured_side_by_side(results: ModelResults, artefact: Path) -> None:
    manifest = read_manifest(artefact / "manifest.json")
    names = ["tvm_vacc bf16", "tvm_vacc bf16 (2)"]
    # The last point is beyond the context: nobody is asked.
    assert [(row.system, row.row.shape) for row in results.rows] == [
        (name, point.shape) for point in POINTS[:3] for name in names
    ]
    for row in results.rows:
        assert row.row.seconds.median > 0
        assert row.row.seconds.samples == 2
        assert (row.ratio is None) == (row.system == names[0])
    ours, again = results.systems
    assert (ours.name, again.name) == tuple(names)
    with safe_open(artefact / manifest.weights[0], "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in manifest.parameters}
    table = 2 * prod(shapes["model.embed_tokens.weight"])
    everything = sum(2 * prod(shape) for shape in shapes.values())
    # Norms and biases may be stored in fp32.
    assert everything - table <= ours.weight_bytes < 1.1 * (everything - table)
    assert ours.position_bytes == 2 * 2 * 2 * 2 * 32  # layers, key and value, heads, bf16, dim
    assert (ours.unit, ours.layers) == ("bf16", 2)
    assert ours.memory["weights"] >= ours.weight_bytes
    assert ours.memory["rest"] > 10 << 20


def test_a_context_is_computed_once_and_cut_back(artefact: Path) -> None:
    with SystemProcess(Start("ours", sys.executable, artefact, 1)) as process:
        assert process.ready_seconds > 0
        assert process.description.context == 2048
        assert process.decode(2000, 1, 4) > 0
        assert process.decode(30, 4, 2) > 0
        assert process.decode(2000, 1, 4) > 0
        assert process.prefill(513) > process.prefill(1) > 0
        total, mapped = process.resident_bytes()
        assert 0 < mapped < total


def test_what_ends_an_adapter_is_one_line(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the adapter ours ended: .*manifest\.json"):
        SystemProcess(Start("ours", sys.executable, tmp_path, 1))
    with SystemProcess(Start("ours", sys.executable, artefact, 1)) as process:
        with pytest.raises(ConfigError, match="the adapter ours ended"):
            process.decode(10**6, 1, 1)
        with pytest.raises(ConfigError, match="the adapter ours ended"):
            process.prefill(1)


def test_limits_are_not_forgotten() -> None:
    assert compare.Limits is limits.Limits
