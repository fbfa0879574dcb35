"""What an adapter says and is told, one JSON object a line; needs the standard library alone.

The adapter begins with a `Description`. Then it gets requests. It answers those for timed work by
``{"seconds": ...}``, what the work took as its user sees it, embedding to sampled token:

    {"do": "prefill", "tokens": n}
        a fresh prompt of n tokens, to its first answer token
    {"do": "decode", "context": c, "batch": b, "steps": s}
        s greedy steps of b sequences of c positions each; preparing them is not timed

Accuracy is measured by another one, answered by ``{"file": ...}``:

    {"do": "logits", "steps": [[...], ...], "file": path}
        a fresh sequence gets the tokens of one step after the other, as prompts and answers do;
        the logits of all tokens, fp32 ``[tokens, vocab]``, go to the .npy file

``{"do": "quit"}`` ends it. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Description:
    """What an adapter has loaded.

    Attributes:
        name: of the program and the type of its weights, for tables.
        settings: what it was told, for people who want to repeat it.
        versions: of its distributions.
        weight_bytes: that a step reads: everything but the embedding table.
        position_bytes: of the KV cache, for one position in all layers.
        unit: ``int8``, ``bf16`` or ``fp32``: what its matrix products multiply.
        context: longest sequence.
        weight_files: absolute paths that it has mapped.
        head_bytes: those of `weight_bytes` that are the head's, where it multiplies otherwise.
        head_unit: what the head multiplies; empty: `unit`.
        attention_unit: what attention multiplies; empty: `unit`.
    """

    name: str
    settings: str
    versions: dict[str, str]
    weight_bytes: int
    position_bytes: int
    unit: str
    context: int
    weight_files: tuple[str, ...] = ()
    head_bytes: int = 0
    head_unit: str = ""
    attention_unit: str = ""


class Adapter(ABC):
    """A loaded model that does timed work, and shows its logits."""

    @abstractmethod
    def describe(self) -> Description:
        """Say what was loaded."""

    @abstractmethod
    def prefill(self, tokens: list[int]) -> float:
        """Return the seconds from a prompt to its first answer token, nothing being cached."""

    @abstractmethod
    def decode(self, context: int, batch: int, steps: int) -> float:
        """Return the seconds of `steps` greedy steps of `batch` sequences of `context` tokens."""

    @abstractmethod
    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """Return the logits of all tokens of a fresh sequence that `steps` are appended to.

        Returns:
            fp32 ``[tokens, vocab]``, of all steps.
        """


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Return token ids, the same in every adapter; all below 50,000, which no vocabulary lacks.

    Small vocabularies of tests take them modulo their size.
    """
    state, ids = seed + 1, []
    for _ in range(tokens):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        ids.append(state >> 8 & 0x7FFF)
    return ids


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of what is installed of `distributions`."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def serve(load: Callable[[Path, int, dict[str, str]], Adapter], *known: str) -> None:
    """Be the program of an adapter: read the arguments, load, and answer requests.

    Args:
        load: makes the adapter of the model's path, the number of threads, and the options
            that were given as ``--set NAME=VALUE``.
        known: names of the options that it takes.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--set", action="append", default=[], dest="options")
    arguments = parser.parse_args()
    # Libraries print where they like; the answers keep the real standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    options = dict(option.split("=", 1) for option in arguments.options)
    if unknown := options.keys() - set(known):
        there = ", ".join(known) or "none"
        raise SystemExit(f"there is no option {min(unknown)!r}; there are: {there}")
    adapter = load(arguments.model, arguments.threads, options)

    def answer(message: dict[str, object]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    answer(asdict(adapter.describe()))
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        if request["do"] == "logits":
            answer({"file": _save(adapter.logits(request["steps"]), request["file"])})
            continue
        if request["do"] == "prefill":
            seconds = adapter.prefill(prompt(request["tokens"]))
        else:
            seconds = adapter.decode(request["context"], request["batch"], request["steps"])
        answer({"seconds": seconds})


def _save(logits: np.ndarray, file: str) -> str:
    """Write the logits to `file`, and return its name."""
    import numpy as np  # an adapter that has logits has it

    np.save(file, logits)
    return file
