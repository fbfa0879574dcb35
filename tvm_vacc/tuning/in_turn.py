"""Times a kernel by other choices against the default ones, in turn, and compares results."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import tvm

from tvm_vacc.errors import PassError
from tvm_vacc.runtime.executable import on_own_cpu
from tvm_vacc.runtime.run_graph import time_runs
from tvm_vacc.tile_records import Chosen, TokenTimes

ROUND_SECONDS = 0.001
"""Least seconds of either in a round: short calls are repeated. Longer rounds would all contain
some of what a system does beside."""

LEAST_ROUNDS = 7
"""However long they take."""

HOPELESS = 0.9
"""Times as fast, in the first rounds, below which no more are run."""

FIRST_ROUNDS = 5

Run = Callable[[], object]
"""One call of a kernel."""


def require_same(of: object, tiles: Chosen, runs: Iterable[Run], out: tvm.runtime.Tensor) -> None:
    """Run the kernels of `of` by default choices and by `tiles`, which write to `out`, and compare.

    Raises:
        PassError: the results differ in a bit.
    """
    results = []
    for run in runs:
        run()
        results.append(out.numpy().copy())
    if not np.array_equal(results[0], results[1], equal_nan=True):
        raise PassError(
            f"{of}: by {tiles} its results are others than by default",
            "report this, and leave this task out of --tasks",
        )


def time_in_turn(one: Run, other: Run, seconds: float, tokens: int, context: int = 0) -> TokenTimes:
    """Return what both take, in rounds of `seconds` in all; `other` is the tuned one.

    `tokens` and `context` are those of a call: see `TokenTimes`.
    """
    with on_own_cpu():
        [warm] = time_runs(one, 1, 1)
        number = math.ceil(ROUND_SECONDS / max(warm, 1e-7))
        pairs: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while len(pairs) < LEAST_ROUNDS or time.perf_counter() < end:
            # Whoever goes first finds the caches as the other has left them: they take turns.
            if len(pairs) % 2:
                [second], [first] = time_runs(other, 1, number), time_runs(one, 1, number)
            else:
                [first], [second] = time_runs(one, 1, number), time_runs(other, 1, number)
            pairs.append((first, second))
            untuned, tuned = (min(each) for each in zip(*pairs, strict=True))
            if len(pairs) == FIRST_ROUNDS and untuned / tuned < HOPELESS:
                break
    ratio = statistics.median(first / second for first, second in pairs)
    return TokenTimes(tokens, untuned, tuned, ratio, context)
