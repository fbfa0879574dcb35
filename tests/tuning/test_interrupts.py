"""Ctrl-C waits for what is held, and reaches no process that was started meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tvm_vacc.tuning.interrupts import interrupt_held

ALIVE = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Python's own handler: a background job inherits "ignore"."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(done: list[str]) -> None:
    with interrupt_held():
        signal.raise_signal(signal.SIGINT)
        done.append(subprocess.check_output([sys.executable, "-c", ALIVE], text=True))


def test_it_is_raised_at_the_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press(done)
    assert done == ["alive\n"]
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)


def test_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="other"), interrupt_held():
        raise RuntimeError("other")
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)
