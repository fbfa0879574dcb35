"""How far the predictions of programs are from transformers' in fp32, on the demo's held-out text.

Each window of the text is a fresh sequence: its first part goes in as a prompt, the rest token by
token, as an answer does, so that both kinds of kernels and the KV cache are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.results import AccuracyRow
from benchmarks.system import Start, SystemProcess
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.passport.divergence import kl_divergence, log_softmax
from tvm_vacc.reference.layered import LayeredGlm

if TYPE_CHECKING:
    from tvm_vacc.runtime.tokenizer import Tokenizer

WINDOWS_TOGETHER = 16
"""Windows that go through a layer of the reference at a time."""


@dataclass(frozen=True)
class Window:
    """A piece of text.

    Attributes:
        tokens: with the prefix that the model expects.
        prefix: tokens of that prefix, which are not scored.
    """

    tokens: tuple[int, ...]
    prefix: int

    @property
    def steps(self) -> list[list[int]]:
        """The tokens of each step: the first half as a prompt, then one at a time."""
        tokens = list(self.tokens)
        prompt = max(self.prefix, len(tokens) // 2)
        return [tokens[:prompt], *([token] for token in tokens[prompt:])]

    @property
    def answers(self) -> np.ndarray:
        """The tokens that are to be predicted, ``[scored]`` int64: all but the prefix."""
        return np.array(self.tokens[self.prefix :])

    def scored(self, logits: np.ndarray) -> np.ndarray:
        """Return the log-probabilities that predict `answers`: fp64 ``[scored, vocab]``.

        Args:
            logits: of all tokens, ``[tokens, vocab]``.
        """
        return log_softmax(logits[self.prefix - 1 : -1])


def held_out_windows(tokenizer: Tokenizer, count: int) -> list[Window]:
    """Return `count` windows of the demo's held-out text, evenly spread over both languages.

    Raises:
        ConfigError: the text has fewer.
    """
    from demo.evaluate import TEXTS, held_out, windows

    documents = [document for name in TEXTS for document in held_out(name)]
    pieces = windows(documents, tokenizer.backend)
    if count > len(pieces):
        raise ConfigError(f"the held-out text has {len(pieces)} windows", "ask for fewer windows")
    prefix = tokenizer.encode("")
    places = np.linspace(0, len(pieces), count, endpoint=False).astype(int)
    return [Window((*prefix, *pieces[place]), len(prefix)) for place in places]


class Reference:
    """transformers' predictions; the hidden states of all windows are in memory, no logits."""

    def __init__(self, checkpoint: Checkpoint, windows: Sequence[Window]) -> None:
        self._glm = LayeredGlm(checkpoint)
        self._windows = windows
        longest = max(len(window.tokens) for window in windows)
        # What follows a token has no influence on it: the padding may be any token.
        ids = torch.zeros(len(windows), longest, dtype=torch.int64)
        for row, window in enumerate(windows):
            ids[row, : len(window.tokens)] = torch.tensor(window.tokens)
        groups = list(self._glm.embed(ids).split(WINDOWS_TOGETHER))
        for index in range(checkpoint.spec.layers):
            layer = self._glm.layer(index)
            groups = [self._glm.run(layer, group) for group in groups]
        self._normalised = self._glm.final_norm(torch.cat(groups))

    def predictions(self) -> Iterator[tuple[Window, np.ndarray]]:
        """Yield each window and its scored log-probabilities, fp64 ``[scored, vocab]``."""
        for window, hidden in zip(self._windows, self._normalised, strict=True):
            yield window, window.scored(self._glm.logits(hidden[: len(window.tokens)]).numpy())


@dataclass(frozen=True)
class Scores:
    """What was found at each scored position of all windows, ``[scored]``.

    Attributes:
        kl: divergence from the reference in nats.
        agrees: whether the same token is the most probable one.
        log_probability: of the token that follows.
    """

    kl: np.ndarray
    agrees: np.ndarray
    log_probability: np.ndarray

    @classmethod
    def of(cls, reference: np.ndarray, found: np.ndarray, answers: np.ndarray) -> Scores:
        """Compare log-probabilities ``[scored, vocab]``."""
        return cls(
            kl_divergence(reference, found),
            reference.argmax(-1) == found.argmax(-1),
            found[np.arange(len(answers)), answers],
        )

    @classmethod
    def all(cls, parts: Sequence[Scores]) -> Scores:
        """Put the scores of windows one after the other."""
        return cls(
            np.concatenate([part.kl for part in parts]),
            np.concatenate([part.agrees for part in parts]),
            np.concatenate([part.log_probability for part in parts]),
        )

    @property
    def perplexity(self) -> float:
        """Of the text, a token."""
        return float(np.exp(-self.log_probability.mean()))


def reference_scores(reference: Reference) -> Scores:
    """Return the reference's scores against itself: its perplexity is what matters."""
    return Scores.all(
        [Scores.of(known, known, window.answers) for window, known in reference.predictions()]
    )


def measure(start: Start, reference: Reference, note: str = "") -> AccuracyRow:
    """Run one system on all windows.

    Args:
        start: of the system.
        reference: on the same windows.
        note: is appended to the system's name.

    Raises:
        ConfigError: it ends early, has another vocabulary, or answers what is no number.
    """
    parts = []
    with SystemProcess(start) as process:
        about = process.description
        for window, known in reference.predictions():
            logits = process.logits(window.steps)
            if logits.shape != (len(window.tokens), known.shape[-1]):
                raise ConfigError(
                    f"{start.model}: its logits have shape {list(logits.shape)}, not "
                    f"{[len(window.tokens), known.shape[-1]]}",
                    "give what was made of this checkpoint",
                )
            if not np.isfinite(logits).all():
                raise ConfigError(f"{start.model}: {about.name} answers what is no number")
            parts.append(Scores.of(known, window.scored(logits), window.answers))
    scores = Scores.all(parts)
    return AccuracyRow(
        system=about.name + note,
        settings=about.settings,
        versions=about.versions,
        weight_bytes=about.weight_bytes,
        position_bytes=about.position_bytes,
        kl_mean=float(scores.kl.mean()),
        kl_p99=float(np.quantile(scores.kl, 0.99)),
        top1=float(scores.agrees.mean()),
        perplexity=scores.perplexity,
    )
