"""Runs a piece of work in a process of its own: what it imports and maps goes when it ends.

The child tells its progress, and an error of the user's, as lines of JSON. It ends when its parent
does, however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.util import find_spec
from types import TracebackType

from tvm_vacc import errors
from tvm_vacc.errors import VaccError
from tvm_vacc.progress import Progress, Report

_REFUSED = 4


class ChildEndedError(Exception):
    """The child ended by a fault of its own; the text says how, in one line.

    Attributes:
        signal: that ended it; 0 where none did.
    """

    def __init__(self, reason: str, signal: int) -> None:
        super().__init__(reason)
        self.signal = signal


def has_torch() -> bool:
    """Tell whether torch is imported already, so that a process of its own saves no memory.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if sys.modules.get("torch") is not None:
        return True
    if find_spec("torch") is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    return False


class Child(AbstractContextManager["Child"]):
    """A process that runs ``python -m module arguments``, which ends its work by `do_work`.

    A context manager: leaving it kills a process that nobody has waited for.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """Start it.

        Args:
            module: whose ``__main__`` calls `do_work`.
            arguments: of its command line.
        """
        # The pipe to its standard input closes when this process ends, however it does.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._notes: list[str] = []
        self._drain = threading.Thread(target=self._read_notes)
        self._drain.start()

    def wait(self, report: Report = lambda _: None) -> None:
        """Return when it has done its work.

        Args:
            report: takes the progress that it tells.

        Raises:
            VaccError: whatever the work raises.
            ChildEndedError: it ended by a signal, a traceback or by itself.
        """
        answers = self._process.stdout
        assert answers is not None
        refused: dict[str, str] = {}
        for line in answers:
            told = json.loads(line)
            if "progress" in told:
                report(Progress(**told["progress"]))
            else:
                refused = told["refused"]
        code = self._process.wait()
        self._drain.join()
        if refused:
            raise getattr(errors, refused["class"])(refused["message"], refused["cure"])
        if code:
            last = self._notes[0].strip().splitlines()[-1:] or [_how_it_ended(code)]
            raise ChildEndedError(last[0], max(0, -code))

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Let it be over."""
        self._process.kill()  # which one that has ended does not feel
        with self._process:
            self._drain.join()

    def _read_notes(self) -> None:
        complaints = self._process.stderr
        assert complaints is not None
        self._notes.append(complaints.read())


def run_child(module: str, *arguments: str, report: Report = lambda _: None) -> None:
    """Run ``python -m module arguments`` and return when it has done its work.

    Args:
        module: as `Child` takes it, like `arguments`.
        arguments: of its command line.
        report: takes the progress that it tells.

    Raises:
        VaccError: see `Child.wait`, like `ChildEndedError`.
    """
    with Child(module, *arguments) as child:
        child.wait(report)


def do_work(work: Callable[[Report], None]) -> int:
    """Do the child's work and return its exit code; for ``sys.exit`` of its ``__main__``."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(answer: dict[str, object]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        work(lambda progress: tell({"progress": asdict(progress)}))
    except VaccError as error:
        refused = {"class": type(error).__name__, "message": error.message, "cure": error.cure}
        tell({"refused": refused})
        return _REFUSED
    return 0


def _how_it_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # past the buffer, whose lock would outlive the interpreter
    os._exit(1)
