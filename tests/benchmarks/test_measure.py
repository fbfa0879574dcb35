from __future__ import annotations

import time

import pytest

from benchmarks.measure import SAMPLE_SECONDS, Case, measure, timed
from tests.benchmarks.made_up import SPEEDS, FakeLimits
from tvm_vacc.machine.speeds import Speeds


def test_each_sample_is_held_against_the_limits_round_it() -> None:
    taken = iter([9.0, 4.0, 1.0])  # the first is a warm-up
    fast, slow = Speeds(300.0, SPEEDS.peaks), Speeds(100.0, SPEEDS.peaks)
    case = Case("copy", "400 bytes", lambda: next(taken), 400, 0, "fp32")
    row = measure(case, FakeLimits(slow, fast, slow), rounds=2)
    # 400 bytes at (100 + 300) / 2 bytes/s are 2 s, in both rounds.
    assert (row.fraction.low, row.fraction.high) == (pytest.approx(0.875), pytest.approx(1.625))
    assert (row.seconds.median, row.seconds.samples, row.limit) == (2.5, 2, "memory")


def test_the_limit_that_binds_most_often_is_named() -> None:
    slow_memory = Speeds(1.0, SPEEDS.peaks)
    case = Case("product", "", lambda: 1.0, 10, 10, "fp32")
    limits = FakeLimits(slow_memory, slow_memory, slow_memory, SPEEDS, SPEEDS)
    assert measure(case, limits, rounds=3).limit == "memory"
    assert measure(case, FakeLimits(SPEEDS), rounds=3).limit == "fp32"


def test_short_work_is_repeated_within_a_sample() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(SAMPLE_SECONDS / 10)

    sample = timed(call)
    sample()
    before = calls
    seconds = sample()
    assert 2 <= calls - before <= 10
    assert seconds >= SAMPLE_SECONDS / 10


def test_long_work_is_done_once() -> None:
    calls = []
    sample = timed(lambda: (calls.append(1), time.sleep(2 * SAMPLE_SECONDS)))
    sample()
    before = len(calls)
    assert sample() >= 2 * SAMPLE_SECONDS
    assert len(calls) == before + 1
