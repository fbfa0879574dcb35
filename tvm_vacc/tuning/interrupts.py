"""Ctrl-C while MetaSchedule measures."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Let Ctrl-C wait until what runs inside is done.

    TVM's C++ parts would make an empty RuntimeError of it, and the processes that are started
    inside, which get it too, would each print where they were: those never see it.

    Raises:
        KeyboardInterrupt: at the end, where Ctrl-C was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which no signal interrupts
        return
    pressed = False

    def note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    handler = signal.signal(signal.SIGINT, note)
    # Processes inherit the mask. This one's other threads take the signal still.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt
