"""What each kernel call of the virtual machine takes, less what it costs to look.

An instrument is a Python function. TVM converts the arguments of the call for it, which takes the
longer the more they are: 1 to 4 us, of which as much lies within what is measured as the call as in
the pause before it, where the machine itself does next to nothing. So that pause is the cost.

No argument is kept while times are taken: a tensor that is held makes the machine take fresh memory
for the next one, and every kernel after it is slower than it is.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import tvm

BUILTIN = "vm.builtin."
"""What the virtual machine's own functions begin with, in TVM."""

What = TypeVar("What")


@dataclass(frozen=True)
class Call(Generic[What]):
    """One call, in the order of a run.

    Attributes:
        what: the caller's description of a kernel; None for a function of the machine's own.
        arguments: how many it has.
    """

    what: What | None
    arguments: int


def calls_of(
    machine: tvm.relax.VirtualMachine,
    run: Callable[[], object],
    describe: Callable[[str, Sequence[Any]], What],
) -> tuple[Call[What], ...]:
    """Return the calls of one `run`, which makes the same every time.

    `describe` is given a kernel's name and arguments.
    """
    calls: list[Call[What]] = []

    def look(_function: Any, name: str, before: bool, _result: Any, *args: Any) -> int:
        if before:
            what = None if name.startswith(BUILTIN) else describe(name, args)
            calls.append(Call(what, len(args)))
        return 0

    with _instrument(machine, look):
        run()
    return tuple(calls)


def time_calls(
    machine: tvm.relax.VirtualMachine, run: Callable[[], object], calls: Sequence[Call[Any]]
) -> list[float]:
    """Return the seconds of each of `calls` in one `run`; 0 for the machine's own."""
    stamps: list[float] = []
    clock, note = time.perf_counter, stamps.append

    def look(*_arguments: Any) -> int:
        note(clock())
        note(clock())
        return 0

    was_collecting = gc.isenabled()
    gc.disable()  # the converted arguments would set it off, at some kernel's cost
    try:
        with _instrument(machine, look):
            run()
    finally:
        if was_collecting:
            gc.enable()
    # Of each call: looking begins and ends before it, begins and ends after it. No kernel is the
    # first call of a compiled function, so the pause before it is the machine's.
    kernels = [place for place, call in enumerate(calls) if call.what is not None]
    pauses: defaultdict[int, list[float]] = defaultdict(list)
    for place in kernels:
        pauses[calls[place].arguments].append(stamps[4 * place] - stamps[4 * place - 1])
    looking = {count: statistics.median(taken) for count, taken in pauses.items()}
    seconds = [0.0] * len(calls)
    for place in kernels:
        taken = stamps[4 * place + 2] - stamps[4 * place + 1]
        seconds[place] = max(0.0, taken - looking[calls[place].arguments])
    return seconds


@contextmanager
def _instrument(machine: tvm.relax.VirtualMachine, look: Callable[..., int]) -> Iterator[None]:
    machine.set_instrument(look)
    try:
        yield
    finally:
        machine.set_instrument(None)
