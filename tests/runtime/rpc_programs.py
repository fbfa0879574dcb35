"""TVM's own tracker and server on loopback, started as a user starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
START_SECONDS = 60


@dataclass(frozen=True)
class Program:
    """A program that listens at `port`, and its children."""

    port: int
    group: int

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.group, number)


@contextmanager
def program(name: str, folder: Path, *arguments: str) -> Iterator[Program]:
    """Run ``python -m tvm.exec.NAME`` for the block, from when it listens."""
    # tvm-ffi imports torch where it can: two seconds of CPU for each of a program's processes.
    (folder / "torch.py").write_text("raise ImportError\n")
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    where = ("--host", LOOPBACK, "--port", str(port), "--port-end", str(port + 1))
    with (folder / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tvm.exec.{name}", *where, *arguments],
            env={
                **os.environ,
                "PYTHONPATH": str(folder),
                "TVM_NUM_THREADS": "1",
                "TVM_DEVICE_BACKEND_AUTOLOAD": "0",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # its child would outlive it
        )
        running = Program(port, process.pid)
        try:
            wait_for(lambda: "bind to" in (folder / f"{name}.log").read_text(), process)
            yield running
        finally:
            running.signal(signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when `condition`, a function, is true; fail when it takes too long."""
    for _ in range(START_SECONDS * 10):
        if condition():
            return
        assert process is None or process.poll() is None, "it has ended"
        time.sleep(0.1)
    raise AssertionError("it takes too long")
