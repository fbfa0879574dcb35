"""The yardstick: the tokens that a model is measured on, and what the reference says of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np

from tvm_vacc.errors import ArtifactError, ConfigError
from tvm_vacc.limits import MAX_YARDSTICK_BYTES
from tvm_vacc.runtime.tokenizer import Tokenizer
from tvm_vacc.safe_io import read_text

YARDSTICK_FILE: Final = "yardstick.npz"
"""The reference's predictions, a file of the artefact."""

TOP: Final = 32
"""Most probable tokens of a position that are kept: 100 KB for 256 positions."""


@dataclass(frozen=True)
class Text:
    """A text, as tokens.

    Attributes:
        name: of its file; empty for the text that the package brings.
        sha256: of its content.
        tokens: with the prefix that the model expects.
        prefix: tokens of that prefix, which are not scored.
    """

    name: str
    sha256: str
    tokens: tuple[int, ...]
    prefix: int


def read_yardstick_text(path: Path | None, tokenizer: Tokenizer, tokens: int) -> Text:
    """Return the first `tokens` tokens of the text in `path`, or of the package's own.

    Raises:
        ConfigError: the file cannot be read, or holds fewer tokens.
    """
    if path is None:
        content = (files("tvm_vacc.passport") / "yardstick.txt").read_text("utf-8")
    else:
        content = read_text(path, limit=MAX_YARDSTICK_BYTES, error=ConfigError, cure=_GIVE_TEXT)
    prefix = len(tokenizer.encode(""))
    found = tokenizer.encode(content)
    if len(found) < tokens:
        where = "the package's own text" if path is None else str(path)
        raise ConfigError(
            f"accuracy.tokens: {where} has {len(found)} tokens, {tokens} are asked for",
            "give a longer accuracy.text, or fewer tokens",
        )
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Text("" if path is None else path.name, digest, tuple(found[:tokens]), prefix)


_GIVE_TEXT = "give a UTF-8 text file"


@dataclass(frozen=True)
class Predictions:
    """What the reference predicts; position `i` tells of token ``first + i + 1``.

    Attributes:
        tokens: of the whole text, ``[tokens]`` int64.
        first: the first position that is scored.
        next_log_probability: of the token that follows, ``[scored]`` fp64.
        top_ids: of the most probable tokens, the most probable first, ``[scored, k]`` int64.
        top_log_probabilities: theirs, ``[scored, k]`` fp64.
    """

    tokens: np.ndarray
    first: int
    next_log_probability: np.ndarray
    top_ids: np.ndarray
    top_log_probabilities: np.ndarray

    @property
    def scored(self) -> int:
        """The number of positions."""
        return len(self.next_log_probability)

    @property
    def perplexity(self) -> float:
        """Of the reference, a token."""
        return float(np.exp(-self.next_log_probability.mean()))

    def save(self, path: Path) -> None:
        """Write them to an .npz file."""
        with path.open("wb") as stream:
            np.savez(stream, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote.

        Raises:
            ArtifactError: the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in cls.__dataclass_fields__}
        except (OSError, ValueError, KeyError, BadZipFile) as problem:
            raise ArtifactError(f"{path}: is damaged ({problem})", "compile it again") from problem
        return cls(**{**found, "first": int(found["first"])})


def top_tokens(log_probabilities: np.ndarray) -> np.ndarray:
    """Return the ids of the `TOP` most probable tokens of ``[vocab]``, the most probable first."""
    count = min(TOP, len(log_probabilities))
    ids = np.argpartition(-log_probabilities, count - 1)[:count]
    return ids[np.argsort(-log_probabilities[ids], kind="stable")]
