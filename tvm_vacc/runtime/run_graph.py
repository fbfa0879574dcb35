"""Runs a graph once for its outputs, and again for the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tvm_vacc.artifact.manifest import TensorSpec


class Runnable(Protocol):
    """A graph, here or on another machine."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """See `Graph.inputs`."""
        ...

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Graph.run`."""
        ...

    def seconds(
        self, arrays: Mapping[str, np.ndarray], *, repeat: int, number: int
    ) -> tuple[float, ...]:
        """See `Graph.seconds`."""
        ...


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        outputs: by name.
        times: seconds of one run, one value a repetition; none where it was not timed.
    """

    outputs: dict[str, np.ndarray]
    times: tuple[float, ...] = ()


def run_graph(
    graph: Runnable,
    arrays: Mapping[str, np.ndarray],
    *,
    timed: bool = False,
    repeat: int = 1,
    number: int = 1,
    end_to_end: bool = False,
) -> RunResult:
    """Run `graph` on `arrays`; where it is to be timed, again after this run, which warms up.

    Args:
        graph: what runs.
        arrays: of all inputs, by name.
        timed: whether it is.
        repeat: values to measure.
        number: runs in a row that one value is the mean of.
        end_to_end: count the copies of inputs and outputs too.

    Raises:
        RequestError: an input is missing, unknown, or of another dtype or shape.
    """
    outputs = graph.run(arrays)
    if not timed:
        return RunResult(outputs)
    if end_to_end:
        return RunResult(outputs, time_runs(lambda: graph.run(arrays), repeat, number))
    return RunResult(outputs, graph.seconds(arrays, repeat=repeat, number=number))


def time_runs(run: Callable[[], object], repeat: int, number: int) -> tuple[float, ...]:
    """Return the seconds of one `run`, `repeat` times, each the mean of `number` in a row."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(number):
            run()
        times.append((time.perf_counter() - start) / number)
    return tuple(times)
