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

Work = Callable[[], list[np.ndarray]]
"""Runs something once and returns its results."""

PROMPT = 512
"""Tokens of a prompt that is timed; fewer where the model takes no more at once."""

DIFFERENCE = 1e-4
"""Largest difference of the outputs, as a part of the largest output: sums in another order."""


@dataclass(frozen=True)
class Gain:
    """What the model takes, measured.

    Attributes:
        what: ``run`` of a graph; ``decode step``, or a prompt, of a language model.
        untuned: median seconds without the records.
        tuned: median seconds with them.
        times: how many times as fast the tuned one is: the median over the rounds.
    """

    what: str
    untuned: float
    tuned: float
    times: float


def measure_gains(untuned: Path, tuned: Path) -> tuple[Gain, ...]:
    """Compare the results of two artefacts of one model, and time them in turn.

    Raises:
        PassError: their results differ.
    """
    before, after = (_works(load(path)) for path in (untuned, tuned))
    return tuple(_measure(what, before[what], after[what]) for what in before)


def _measure(what: str, before: Work, after: Work) -> Gain:
    _compare(before(), after())
    number = max(1, round(ROUND_SECONDS / time_runs(after, 1, 1)[0]))
    pairs = [
        (time_runs(before, 1, number)[0], time_runs(after, 1, number)[0]) for _ in range(ROUNDS)
    ]
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Gain(what, first, second, statistics.median(one / other for one, other in pairs))


def _works(loaded: Graph | Model) -> dict[str, Work]:
    """Return what is timed, by what it is called."""
    if isinstance(loaded, Graph):
        return {"run": _run(loaded)}
    tokens = min(PROMPT, loaded.prefill_tokens)
    return {"decode step": _step(loaded), f"prompt of {tokens} tokens": _prompt(loaded, tokens)}


def _run(graph: Graph) -> Work:
    shapes = {  # 1 for dimensions that are open
        spec.name: tuple(1 if isinstance(dim, str) else dim for dim in spec.shape)
        for spec in graph.inputs
    }
    arrays = fill_inputs(graph.inputs, {}, "random", shapes)
    return lambda: list(graph.run(arrays).values())


def _prompt(model: Model, tokens: int) -> Work:
    sequence = Sequence()
    prompt = [7 * i % model.spec.vocab for i in range(tokens)]

    def run() -> list[np.ndarray]:
        logits = model.prefill(sequence, prompt).numpy()
        model.pool.truncate(sequence, 0)
        return [logits]

    return run


def _step(model: Model) -> Work:
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
