"""Limits and results that no machine made, for tests of what is done with them."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.machine import Machine, Run
from benchmarks.measure import Row
from benchmarks.results import (
    AccuracyResults,
    AccuracyRow,
    CompileResults,
    KernelResults,
    Limits,
    ModelResults,
    ModelRow,
    Phase,
    System,
)
from benchmarks.spread import Spread
from tvm_vacc.machine.speeds import Speeds

RUN = Run(
    command="python -m benchmarks kernels",
    started="2026-01-02T03:04:05+00:00",
    machine=Machine("A CPU", ("avx2",), 2, 8_000_000_000, "Linux 6"),
    versions={"tvm-vacc": "0.1.0"},
    target="tvm_vacc",
    threads=2,
)

SPEEDS = Speeds(read=100.0, peaks={"fp32": 10.0, "int8": 40.0})


class FakeLimits:
    """Gives the readings one after the other, the last one for ever."""

    def __init__(self, *readings: Speeds) -> None:
        self._readings: Iterator[Speeds] = iter(readings[:-1])
        self._last = readings[-1]

    def measure(self) -> Speeds:
        return next(self._readings, self._last)


def flat(value: float) -> Spread:
    return Spread(value, value, value, 3)


def row(name: str = "rms_norm", shape: str = "1 x 4096", seconds: float = 0.002) -> Row:
    return Row(name, shape, 3e6, 5e6, "fp32", flat(seconds), "memory", flat(0.9))


def kernel_results() -> KernelResults:
    return KernelResults(RUN, Limits.of([SPEEDS]), (row(), row("rope", "a | b")))


def model_results() -> ModelResults:
    systems = tuple(
        System(name, "default", {}, 10**9, 2048, "bf16", 4, flat(1), flat(2), _MEMORY)
        for name in ("ours", "theirs")
    )
    rows = [
        ModelRow(system.name, work, context, batch, tokens, row(seconds=0.5), ratio)
        for work, context, batch, tokens in (
            ("decode", 16, 1, 1),
            ("decode", 64, 1, 1),
            ("decode", 64, 4, 4),
            ("prefill", 0, 1, 100),
        )
        for system, ratio in zip(systems, (None, flat(1.5)), strict=True)
    ]
    return ModelResults(RUN, Limits.of([SPEEDS]), systems, tuple(rows))


def compile_results() -> CompileResults:
    phases = (Phase("export", 1.0, 10**9, 2 * 10**9), Phase("weights", 4.0, 2 * 10**9, 3 * 10**9))
    return CompileResults(RUN, "4 layers", 10**9, 2 * 10**9, phases, flat(2.0))


def accuracy_results() -> AccuracyResults:
    row = AccuracyRow("them q8", "mode x", {"x": "1"}, 2 * 10**9, 544, 3e-4, 1.25e-3, 0.985, 12.5)
    return AccuracyResults(RUN, "a model", "9 windows of a text", 1130, 12.25, (row,))


_MEMORY = {"weights": 10**9, "kv": 10**8, "rest": 10**7}
