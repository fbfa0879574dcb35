"""Measures a loaded model on the yardstick: its predictions, its hidden states, its largest values.

Most of the text goes through steps of many tokens, the end of it through steps of one: both kinds
of kernels are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.passport import Accuracy, Largest, LayerAccuracy, Replay
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import FP16_MAX
from tvm_vacc.passport.divergence import (
    cosines,
    kl_divergence,
    log_softmax,
    top_kl_divergence,
)
from tvm_vacc.passport.observe import KernelCall, observing
from tvm_vacc.passport.reference_files import ReferenceFiles
from tvm_vacc.passport.yardstick import Predictions
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.model import Model
from tvm_vacc.wording import layers_text

STEP = 32
"""Tokens a step at most: their logits take 20 MB where the vocabulary is 151,552."""

DECODED = 16
"""Tokens at the end of the text that are computed one at a time."""

Told = Callable[[int, int], None]
"""Takes the tokens done and in all."""


def replay(model: Model, predictions: Predictions, told: Told = lambda done, total: None) -> Replay:
    """Measure what needs no checkpoint.

    Raises:
        ArtifactError: the model answers what is no number.
        RequestError: the yardstick does not fit the model.
    """
    scores = _Scores(predictions)
    for start, logits in _steps(model, predictions.tokens.tolist()):
        scores.add(start, logits)
        told(start + len(logits), len(predictions.tokens))
    return scores.replay(str(model.path))


def measure(
    model: Model,
    predictions: Predictions,
    reference: ReferenceFiles,
    told: Told = lambda done, total: None,
) -> Accuracy:
    """Measure everything, against what `make_reference` wrote.

    Raises:
        ArtifactError: keys or values overflow the cache, or the model answers what is no number.
        RequestError: the yardstick does not fit the model.
    """
    scores = _Scores(predictions, reference.logits)
    layers = _Layers(reference.hidden)
    with observing(model, layers.see):
        for start, logits in _steps(model, predictions.tokens.tolist()):
            layers.take(start, len(logits))
            scores.add(start, logits)
            told(start + len(logits), len(predictions.tokens))
    _require_fp16(layers.largest.max(0)[:, 1:], model.manifest)
    made = scores.replay(model.manifest.name)
    kl = np.array(scores.kl)
    return Accuracy(float(kl.mean()), float(np.quantile(kl, 0.99)), made, layers.accuracy())


def _require_fp16(largest_L2: np.ndarray, manifest: Manifest) -> None:
    """Refuse keys and values that caches of fp16 have no numbers for.

    Raises:
        ArtifactError: names the layers: those before anything else is no number any more.
    """
    is_fp16_L = np.array([cache.dtype == "float16" for cache in manifest.caches[::2]])
    for what, largest in zip(("keys", "values"), largest_L2.T, strict=True):
        beyond = np.flatnonzero(is_fp16_L & (largest > FP16_MAX)).tolist()
        if beyond:
            raise ArtifactError(
                f"{manifest.name}: the {what} of {layers_text(beyond)} reach "
                f"{largest[beyond].max():g}, a cache of fp16 ends at {FP16_MAX:g}",
                "compile with backend.dtype: bf16",
            )


def _steps(model: Model, tokens: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first position and the logits ``[tokens, vocab]`` of each step."""
    model.check_prompt(tokens, len(tokens))
    size = min(STEP, model.prefill_tokens)
    many = max(0, len(tokens) - DECODED)
    starts = [*range(0, many, size), *range(many, len(tokens) + 1)]
    with model.temporary_sequence() as sequence:
        for start, stop in pairwise(starts):
            row = Row(sequence, tokens[start:stop], all_logits=True)
            yield start, model.step([row]).numpy()


@dataclass
class _Scores:
    """Collects what is found at each scored position."""

    predictions: Predictions
    logits: np.ndarray | None = None
    next_log_probability: list[float] = field(default_factory=list)
    agreements: list[bool] = field(default_factory=list)
    top_kl: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)

    def add(self, start: int, logits_NV: np.ndarray) -> None:
        known = self.predictions
        for position, row in enumerate(logits_NV, start):
            index = position - known.first
            if not 0 <= index < known.scored:
                continue
            found = log_softmax(row)
            top = known.top_ids[index]
            self.next_log_probability.append(found[known.tokens[position + 1]])
            self.agreements.append(found.argmax() == top[0])
            top_kl = top_kl_divergence(known.top_log_probabilities[index], found[top])
            self.top_kl.append(float(top_kl))
            if self.logits is not None:
                kl = kl_divergence(log_softmax(self.logits[position]), found)
                self.kl.append(float(kl))

    def replay(self, where: str) -> Replay:
        top_kl = np.array(self.top_kl)
        if not np.isfinite([top_kl.sum(), sum(self.next_log_probability)]).all():
            raise ArtifactError(
                f"{where}: the model answers the yardstick text by what is no number",
                "compile it again; with backend.dtype: bf16 nothing overflows",
            )
        return Replay(
            perplexity=float(np.exp(-np.mean(self.next_log_probability))),
            top1=float(np.mean(self.agreements)),
            top_kl_mean=float(top_kl.mean()),
            top_kl_p99=float(np.quantile(top_kl, 0.99)),
        )


class _Layers:
    """Collects what happens in the layers, step by step."""

    def __init__(self, reference: Sequence[np.ndarray]) -> None:
        self._reference = reference
        count = len(reference)
        # What reads the hidden state after a layer: the norm that the next layer begins with.
        readers = [f"model.layers.{i}.input_layernorm.weight" for i in range(1, count)]
        self._readers = {name: i for i, name in enumerate([*readers, "model.norm.weight"])}
        self._hidden: dict[int, np.ndarray] = {}
        self._appended: dict[int, list[float]] = {}
        self._cosines: list[list[float]] = [[] for _ in reference]
        self._errors, self._norms = np.zeros(count), np.zeros(count)
        # Largest hidden state, key and value, of steps of many tokens and of one.
        self.largest = np.zeros((2, count, 3))

    def see(self, call: KernelCall) -> None:
        if call.cache is not None:
            self._appended[call.cache // 2] = [float(np.abs(x).max()) for x in call.inputs[:2]]
        for name in call.reads:
            if name in self._readers:
                self._hidden[self._readers[name]] = call.inputs[0]

    def take(self, start: int, tokens: int) -> None:
        """Compare what was seen in the step that has just ended."""
        for layer, reference in enumerate(self._reference):
            found, want = self._hidden[layer], reference[start : start + tokens]
            self._cosines[layer] += cosines(want, found).tolist()
            self._errors[layer] += np.square(found - want, dtype=np.float64).sum()
            self._norms[layer] += np.square(want, dtype=np.float64).sum()
            seen = [float(np.abs(found).max()), *self._appended[layer]]
            largest = self.largest[int(tokens == 1), layer]
            np.maximum(largest, seen, out=largest)
        self._hidden.clear()
        self._appended.clear()

    def accuracy(self) -> tuple[LayerAccuracy, ...]:
        errors = np.sqrt(self._errors / np.maximum(self._norms, np.finfo(np.float64).tiny))
        return tuple(
            LayerAccuracy(
                cosine=float(np.mean(self._cosines[layer])),
                relative_error=float(errors[layer]),
                prefill=Largest(*self.largest[0, layer].tolist()),
                decode=Largest(*self.largest[1, layer].tolist()),
            )
            for layer in range(len(self._reference))
        )
