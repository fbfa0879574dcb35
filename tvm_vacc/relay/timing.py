"""Timing of Python functions as TVM times compiled ones."""

from __future__ import annotations

import time
from collections.abc import Callable

from tvm.runtime.module import BenchmarkResult


def time_calls(
    run: Callable[[], None], repeat: int, number: int, min_repeat_ms: int
) -> BenchmarkResult:
    """Time `run` as TVM's evaluator does: one call to warm up, then means of `number` calls."""
    run()
    results = []
    for _ in range(repeat):
        calls = number
        while True:
            start = time.perf_counter()
            for _ in range(calls):
                run()
            seconds = time.perf_counter() - start
            if seconds * 1e3 >= min_repeat_ms:
                break
            calls = max(calls + 1, int(calls * min(10.0, min_repeat_ms / (seconds * 1e3) * 1.1)))
        results.append(seconds / calls)
    return BenchmarkResult(results)
