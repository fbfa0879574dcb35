"""A system that is measured: an adapter in a process of its own, told what to do."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.peers.protocol import Description
from tvm_vacc.errors import ConfigError

ROOT = Path(__file__).parents[1]

NO_ADAPTERS = ("__init__", "protocol")
"""Modules of `benchmarks.peers` that are none."""


@dataclass(frozen=True)
class Start:
    """How an adapter is started.

    Attributes:
        adapter: its module in `benchmarks.peers`.
        python: the interpreter that has what it needs.
        model: what it loads.
        threads: it may use.
        options: ``NAME=VALUE``, as the adapter knows them.
    """

    adapter: str
    python: str
    model: Path
    threads: int
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The process's arguments."""
        options = [word for option in self.options for word in ("--set", option)]
        module = f"benchmarks.peers.{self.adapter}"
        return [self.python, "-m", module, str(self.model), f"--threads={self.threads}", *options]


class SystemProcess:
    """A running adapter; a context manager.

    Attributes:
        description: of what it has loaded.
        name: for tables; that of the description, unless two would have the same.
        ready_seconds: from the start of the process until it could take a request.
    """

    def __init__(self, start: Start) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            ConfigError: it ends before; the message is its last line.
        """
        self._start = start
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 # lives as long as the process
        began = time.perf_counter()
        # Like the directory that a command is run from, the tree is first on its path.
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            start.command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        document = self._receive()
        self.ready_seconds = time.perf_counter() - began
        document["weight_files"] = tuple(document["weight_files"])
        self.description = Description(**document)
        self.name = self.description.name

    def __enter__(self) -> SystemProcess:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def prefill(self, tokens: int) -> float:
        """Return the seconds from a fresh prompt to its first answer token."""
        return float(self._ask({"do": "prefill", "tokens": tokens})["seconds"])

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Return the seconds of a step of `batch` sequences, the mean of `steps`."""
        request = {"do": "decode", "context": context, "batch": batch, "steps": steps}
        return float(self._ask(request)["seconds"]) / steps

    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """Return the logits of all tokens of a fresh sequence that `steps` are appended to.

        Returns:
            fp32 ``[tokens, vocab]``, of all steps.
        """
        with tempfile.TemporaryDirectory() as directory:
            file = str(Path(directory) / "logits.npy")
            self._ask({"do": "logits", "steps": steps, "file": file})
            return np.load(file, allow_pickle=False)

    def resident_bytes(self) -> tuple[int, int]:
        """Return the resident bytes of the whole process, and those mapped from weight files."""
        total = mapped = 0
        name = ""
        for line in Path(f"/proc/{self._process.pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                name = words[5] if len(words) > 5 else ""
            elif words[0] == "Rss:":
                size = int(words[1]) << 10
                total += size
                mapped += size * (name in self.description.weight_files)
        return total, mapped

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then reading tells why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {self._process.returncode}"
        raise ConfigError(
            f"the adapter {self._start.adapter} ended: {reason}",
            "see in benchmarks/README.md what its environment must have",
        )


def parse_peer(words: tuple[str, str, str], threads: int) -> Start:
    """Return how to start a peer: ``ADAPTER[:NAME=VALUE,...]``, interpreter and model.

    Raises:
        ConfigError: an unknown adapter, an option of another form, a file that is not there.
    """
    (name, _, settings), python, model = words[0].partition(":"), words[1], Path(words[2])
    known = sorted(path.stem for path in (ROOT / "benchmarks" / "peers").glob("*.py"))
    adapters = [stem for stem in known if stem not in NO_ADAPTERS]
    if name not in adapters:
        raise ConfigError(f"there is no adapter {name!r}", f"choose of {', '.join(adapters)}")
    options = tuple(filter(None, settings.split(",")))
    if wrong := [option for option in options if "=" not in option]:
        raise ConfigError(f"--peer {words[0]}: {wrong[0]!r}", "write options as NAME=VALUE")
    for path in (Path(python), model):
        if not path.exists():
            raise ConfigError(f"--peer {name}: {path} is not there", "give an existing path")
    return Start(name, python, model, threads, options)
