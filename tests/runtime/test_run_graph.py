from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.runtime.run_graph import run_graph, time_runs


class Doubling:
    """Doubles `x`, and counts how."""

    inputs = (TensorSpec("x", (3,), "float64"),)

    def __init__(self) -> None:
        self.runs = self.calls = 0

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        return {"y": 2 * arrays["x"]}

    def seconds(
        self, _arrays: Mapping[str, np.ndarray], *, repeat: int, number: int
    ) -> tuple[float, ...]:
        self.calls += repeat * number
        return (1.0,) * repeat


@pytest.mark.parametrize(("end_to_end", "runs", "calls"), [(False, 1, 12), (True, 13, 0)])
def test_outputs_and_times(end_to_end: bool, runs: int, calls: int) -> None:
    graph: Any = Doubling()
    arrays = {"x": np.ones(3)}
    result = run_graph(graph, arrays, timed=True, repeat=3, number=4, end_to_end=end_to_end)
    assert (len(result.times), graph.runs, graph.calls) == (3, runs, calls)
    np.testing.assert_array_equal(result.outputs["y"], [2, 2, 2])
    assert run_graph(graph, arrays).times == ()


def test_a_time_is_the_mean_of_runs_in_a_row() -> None:
    calls: list[int] = []

    def run() -> None:
        calls.append(1)
        time.sleep(2e-3)

    times = time_runs(run, repeat=3, number=4)
    assert len(calls) == 12
    assert len(times) == 3
    assert min(times) >= 2e-3
