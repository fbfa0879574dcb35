"""What tuning has gained: the model compiled without records and with them, timed in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvm_vacc.errors import PassError
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.fill import fill_inputs
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.load import load
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.run_graph import time_runs

ROUNDS = 15
"""Rounds in which both are timed, one after the other."""

ROUND_SECONDS = 0.02
"""Least seconds of either in a round: short runs are repeated."""

CONTEXT = 128
"""Tokens in the cache before a decode step that is timed."""

DIFFERENCE = 1e-4
"""Largest difference of the outputs, as a part of the largest output: sums in another order."""


@dataclass(frozen=True)
class Gain:
    """What the model takes, measured.

    Attributes:
        what: ``run`` of a graph, or ``decode step`` of a language model.
        untuned: median seconds without the records.
        tuned: median seconds with them.
        times: how many times as fast the tuned one is: the median over the rounds.
    """

    what: str
    untuned: float
    tuned: float
    times: float


def measure_gain(untuned: Path, tuned: Path) -> Gain:
    """Compare the results of two artefacts of one model, and time them in turn.

    Raises:
        PassError: their results differ.
    """
    works = [_work(load(path)) for path in (untuned, tuned)]
    (what, before), (_, after) = works
    _compare(before(), after())
    number = max(1, round(ROUND_SECONDS / time_runs(after, 1, 1)[0]))
    pairs = [
        (time_runs(before, 1, number)[0], time_runs(after, 1, number)[0]) for _ in range(ROUNDS)
    ]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Gain(what, first, second, statistics.median(one / other for one, other in pairs))


def _work(loaded: Graph | Model) -> tuple[str, Callable[[], list[np.ndarray]]]:
    if isinstance(loaded, Graph):
        return "run", _run(loaded)
    return "decode step", _step(loaded)


def _run(graph: Graph) -> Callable[[], list[np.ndarray]]:
    shapes = {  # 1 for dimensions that are open
        spec.name: tuple(1 if isinstance(dim, str) else dim for dim in spec.shape)
        for spec in graph.inputs
    }
    arrays = fill_inputs(graph.inputs, {}, "random", shapes)
    return lambda: list(graph.run(arrays).values())


def _step(model: Model) -> Callable[[], list[np.ndarray]]:
    context = min(CONTEXT, model.context // 2)
    sequence = Sequence()
    model.prefill(sequence, [7 * i % model.spec.vocab for i in range(context)])

    def run() -> list[np.ndarray]:
        logits = model.step([Row(sequence, [3])]).numpy()
        model.pool.truncate(sequence, context)
        return [logits]

    return run


def _compare(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    for one, other in zip(before, after, strict=True):
        if one.dtype.kind != "f":
            continue  # an index or a code tips over where sums are made in another order
        most = DIFFERENCE * float(np.abs(one[np.isfinite(one)]).max(initial=1.0))
        if not np.allclose(one, other, rtol=0, atol=most, equal_nan=True):
            raise PassError(
                "the tuned model gives other results than the untuned one",
                "report this, and compile without the records",
            )
