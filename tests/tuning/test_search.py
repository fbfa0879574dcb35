"""The search without its clock: schedules of a convolution are made, and times made up."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tvm_vacc
from tests.tuning.models import convolution
from tvm_vacc import compiler
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.codegen.options import BuildOptions
from tvm_vacc.errors import MissingExtraError
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.target_string import make_target
from tvm_vacc.tuning import search as searching
from tvm_vacc.tuning.search import Measuring, search
from tvm_vacc.tuning.tasks import Kernel
from tvm_vacc.tuning.tune import DEFAULT_TARGET, list_tasks
from tvm_vacc.tuning_records import SCHEDULES, TuningRecords

TARGET = make_target(DEFAULT_TARGET)


@dataclass
class Clock:
    """Takes the place of `Measuring`: the untuned kernel takes 10 s, then come `times`."""

    times: Iterator[float | None]
    target: Any
    seen: list[int] = field(default_factory=list)
    timeout: float = 30.0

    def seconds(self, modules: Sequence[object]) -> list[float | None]:
        self.seen.append(len(modules))
        return [10.0] if len(self.seen) == 1 else [next(self.times) for _ in modules]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convolution(tmp_path_factory.mktemp("model") / "net.onnx")


@pytest.fixture(scope="module")
def kernel(model: Path) -> Kernel:
    return list_tasks(model).kernels[0]


def run(
    kernel: Kernel, directory: Path, clock: Clock, trials: int, early: int | None = None
) -> TuningRecords:
    records = TuningRecords.open_or_start(directory, TARGET)
    measuring: Any = clock
    return search(
        kernel, records, measuring, trials=trials, early_stopping=early, report=lambda *_: None
    )


def clock_of(*times: float | None) -> Clock:
    return Clock(iter(times), make_target(f"{DEFAULT_TARGET} -num-cores=2"))


def test_records_grow_by_what_is_missing_and_the_compiler_uses_the_best(
    model: Path, kernel: Kernel, tmp_path: Path
) -> None:
    first = clock_of(None, 5.0, 2.0)
    [record] = run(kernel, tmp_path / "r", first, 3).kernels.values()
    assert (record.trials, record.untuned, record.best, record.times) == (3, 10.0, 2.0, 5.0)
    before = (tmp_path / "r" / SCHEDULES).read_text()
    again = clock_of(3.0)
    again.seen.append(1)  # it is known what the untuned kernel takes
    records = run(kernel, tmp_path / "r", again, 4)
    assert records.kernels[record.digest].trials == 4
    assert again.seen == [1, 1]
    after = (tmp_path / "r" / SCHEDULES).read_text()
    assert after.startswith(before)
    assert len(set(after.splitlines())) == 4  # another schedule
    assert run(kernel, tmp_path / "r", again, 4) == records

    path = compiler.compile(
        model,
        output=tmp_path / "out",
        target=DEFAULT_TARGET,
        build=BuildOptions(tuning=TuningRecords.open(tmp_path / "r", TARGET)),
    )
    report = read_manifest(path / MANIFEST_NAME).passes[-1]
    assert (report.name, report.matches) == ("apply_tuning_records", 1)
    assert report.note == "fused_conv2d_add_relu"
    graph = tvm_vacc.load(path)
    assert isinstance(graph, Graph)
    x = np.random.default_rng(1).standard_normal((1, 8, 14, 14)).astype(np.float32)
    [expected] = onnxruntime.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_allclose(graph.run({"x": x})["y"], expected, rtol=0, atol=1e-6)


def test_what_does_not_gain_is_not_used(model: Path, kernel: Kernel, tmp_path: Path) -> None:
    records = run(kernel, tmp_path / "r", clock_of(None, 11.0), 2)
    path = compiler.compile(
        model,
        output=tmp_path / "out",
        target=DEFAULT_TARGET,
        build=BuildOptions(tuning=records),
    )
    report = read_manifest(path / MANIFEST_NAME).passes[-1]
    assert (report.name, report.matches) == ("apply_tuning_records", 0)
    assert report.note == "no kernel of this model gains by these records"


def test_it_stops_where_nothing_is_better(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "BATCH", 2)
    clock = clock_of(5.0, 2.0, 3.0, None, 4.0, 2.0)
    [record] = run(kernel, tmp_path, clock, 20, 3).kernels.values()
    assert (record.trials, record.best) == (6, 2.0)


def test_what_processes_need_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingExtraError, match=r"cloudpickle.*tvm-vacc\[tune\]"):
        Measuring.make(TARGET, 1, 30.0)
