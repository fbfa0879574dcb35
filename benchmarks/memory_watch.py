"""Watches the memory of this process and its children while they work, as Linux accounts for it."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

INTERVAL = 0.01
"""Seconds between two looks; what comes and goes within is not seen."""


class MemoryWatch(AbstractContextManager["MemoryWatch"]):
    """Keeps the highest resident bytes since the last `take`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._highest = (0, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._done.set()
        self._thread.join()

    def take(self) -> tuple[int, int]:
        """Return the highest bytes that belong to no file, and the highest in all; begin anew."""
        self._look()
        with self._lock:
            highest, self._highest = self._highest, (0, 0)
        return highest

    def _run(self) -> None:
        while not self._done.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        sizes = [_resident(pid) for pid in _family(os.getpid())]
        anonymous, resident = (sum(column) for column in zip(*sizes, strict=True))
        with self._lock:
            self._highest = max(self._highest[0], anonymous), max(self._highest[1], resident)


def _family(pid: int) -> list[int]:
    """Return a process and all that it has started, directly or not."""
    found = [pid]
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def _resident(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process that belong to no file, and all of them."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0, 0
    pairs = (line.split() for line in lines if line.startswith(("VmRSS", "RssAnon", "RssShmem")))
    sizes = {words[0]: int(words[1]) << 10 for words in pairs}
    anonymous = sizes.get("RssAnon:", 0) + sizes.get("RssShmem:", 0)
    return anonymous, sizes.get("VmRSS:", 0)
