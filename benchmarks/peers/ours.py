"""Our own artefacts, as an adapter: ``python -m benchmarks.peers.ours ARTEFACT --threads N``."""

from __future__ import annotations

import json
import time
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.protocol import Adapter, Description, prompt, serve, versions
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.machine.unit import unit_of
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.sampling import SamplingParams
from tvm_vacc.tvmc._load import load_language_model

if TYPE_CHECKING:
    from tvm_vacc.runtime.model import Model

EMBEDDING = "model.embed_tokens.weight"
"""What the names of the table's tensors begin with; a step reads a few rows of it."""


class Ours(Adapter):
    """A loaded artefact; its sequences stay, so that a context is computed once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sequences: list[Sequence] = []

    def describe(self) -> Description:
        """Say what was loaded."""
        manifest = self._model.manifest
        caches = self._model.params[: len(manifest.caches)]
        tensors = zip(manifest.parameters, self._model.params[len(manifest.caches) :], strict=True)
        read = [tensor for name, tensor in tensors if not name.startswith(EMBEDDING)]
        kind = manifest.dtype if manifest.quantization == "none" else manifest.quantization
        return Description(
            name=f"tvm_vacc {kind}",
            settings=f"{manifest.dtype}, mcpu {json.loads(manifest.target).get('mcpu')}",
            versions=versions("tvm-vacc", "apache-tvm"),
            weight_bytes=sum(map(_nbytes, read)),
            position_bytes=sum(_nbytes(c) // c.shape[0] for c in caches) // manifest.page_size,
            unit=unit_of(manifest),
            context=manifest.context,
            head_bytes=sum(stored.bytes for stored in manifest.storage if stored.kind == "head"),
            head_unit=unit_of(manifest, "head"),
            attention_unit="fp32" if manifest.dtype == "fp32" else "bf16",
            weight_files=tuple(str((self._model.path / f).resolve()) for f in manifest.weights),
        )

    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        model = self._model
        tokens = [token % model.spec.vocab for token in tokens]
        with model.temporary_sequence() as sequence:
            start = time.perf_counter()
            self._next_tokens(model.prefill(sequence, tokens), 1)
            return time.perf_counter() - start

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`."""
        model, sequences = self._model, self._prepared(context, batch)
        tokens = [1] * batch
        start = time.perf_counter()
        for _ in range(steps):
            rows = [
                Row(sequence, [token]) for sequence, token in zip(sequences, tokens, strict=True)
            ]
            tokens = self._next_tokens(model.step(rows), batch)
        seconds = time.perf_counter() - start
        for sequence in sequences:
            model.pool.truncate(sequence, context)
        return seconds

    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """See `Adapter`."""
        model, size = self._model, self._model.prefill_tokens
        pieces = [step[i : i + size] for step in steps for i in range(0, len(step), size)]
        with model.temporary_sequence() as sequence:
            return np.concatenate(
                [model.step([Row(sequence, piece, all_logits=True)]).numpy() for piece in pieces]
            )

    def _prepared(self, context: int, batch: int) -> list[Sequence]:
        """Return sequences of `context` tokens; those of the call before are cut or continued."""
        model = self._model
        for sequence in self._sequences[batch:]:
            model.pool.truncate(sequence, 0)
        self._sequences += [Sequence() for _ in range(batch - len(self._sequences))]
        for row, sequence in enumerate(self._sequences[:batch]):
            model.pool.truncate(sequence, min(context, len(sequence)))
            tokens = [token % model.spec.vocab for token in prompt(context, seed=row)]
            if missing := tokens[len(sequence) :]:
                model.prefill(sequence, missing)
        return self._sequences[:batch]

    def _next_tokens(self, logits: Any, rows: int) -> list[int]:
        return self._model.sample_rows(logits, [SamplingParams()] * rows, [0.0] * rows)


def load(path: Path, threads: int, _options: dict[str, str]) -> Ours:
    """Load the artefact at `path`."""
    return Ours(load_language_model(path, threads))


def _nbytes(tensor: Any) -> int:
    return prod(tensor.shape) * NUMPY_DTYPES[str(tensor.dtype)].itemsize


if __name__ == "__main__":
    serve(load)
