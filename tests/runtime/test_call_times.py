"""The instrument's own cost is taken off; a machine that is made up says what calls take."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tvm_vacc.runtime import call_times
from tvm_vacc.runtime.call_times import calls_of, time_calls

KERNELS = (5.0, 7.0, 0.5)
LOOKING = 3.0


class Machine:
    """Calls kernels of two arguments, between calls of its own, by a clock of its own.

    Handing arguments to the instrument takes `LOOKING` each time.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._look: Callable[..., int] | None = None

    def set_instrument(self, look: Callable[..., int] | None) -> None:
        self._look = look

    def run(self) -> None:
        self._call("vm.builtin.alloc_shape_heap", 40.0)
        for seconds in KERNELS:
            self._call("linear", seconds)

    def _call(self, name: str, seconds: float) -> None:
        self._tell(name, True)
        self.now += seconds
        self._tell(name, False)

    def _tell(self, name: str, before: bool) -> None:
        if self._look is not None:
            self.now += LOOKING
            self._look(None, name, before, None, "x", "y")


def test_calls_are_described_and_timed_without_the_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine: Any = Machine()
    monkeypatch.setattr(call_times, "time", SimpleNamespace(perf_counter=lambda: machine.now))
    calls = calls_of(machine, machine.run, lambda name, args: (name, *args))
    assert [call.what for call in calls] == [None, *[("linear", "x", "y")] * 3]
    assert time_calls(machine, machine.run, calls) == [0.0, *KERNELS]
