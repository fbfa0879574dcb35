"""ONNX Runtime, in fp32, on the model.onnx that a compile keeps beside its artefact.

Its weights are the checkpoint's own and become fp32 when the session is made.
"""

from __future__ import annotations

import time
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.peers.protocol import Adapter, Description, prompt, serve, versions

PAST, PRESENT = "past_key_values.", "present."


class OnnxRuntime(Adapter):
    """A session; the cache is what it returned last, and goes back in as it is."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        graph = onnx.load(path, load_external_data=False).graph
        self._weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
        self._past = [i for i in self._session.get_inputs() if i.name.startswith(PAST)]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def describe(self) -> Description:
        """Say what was loaded."""
        table = prod(self._weights["model.embed_tokens.weight"])
        numbers = sum(prod(shape) for shape in self._weights.values()) - table
        return Description(
            name="onnxruntime fp32",
            settings="CPUExecutionProvider, logits of every token",
            versions=versions("onnxruntime"),
            weight_bytes=4 * numbers,
            position_bytes=4 * sum(past.shape[1] * past.shape[3] for past in self._past),
            unit="fp32",
            context=1 << 20,
        )

    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        start = time.perf_counter()
        greedy(self._step(np.array([tokens]), self._empty(1))[0])
        return time.perf_counter() - start

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`; a cache cannot be cut, so the context is computed before each sample."""
        contexts = np.array([prompt(context, seed=row) for row in range(batch)])
        _, cache = self._step(contexts, self._empty(batch))
        ids = np.ones((batch, 1), np.int64)
        start = time.perf_counter()
        for _ in range(steps):
            logits, cache = self._step(ids, cache)
            ids = greedy(logits)
        return time.perf_counter() - start

    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """See `Adapter`."""
        cache, parts = self._empty(1), []
        for step in steps:
            logits, cache = self._step(np.array([step]), cache)
            parts.append(logits[0])
        return np.concatenate(parts)

    def _empty(self, batch: int) -> list[onnxruntime.OrtValue]:
        return [
            onnxruntime.OrtValue.ortvalue_from_numpy(
                np.zeros((batch, past.shape[1], 0, past.shape[3]), np.float32)
            )
            for past in self._past
        ]

    def _step(
        self, ids: np.ndarray, cache: list[onnxruntime.OrtValue]
    ) -> tuple[np.ndarray, list[onnxruntime.OrtValue]]:
        """Run tokens ``[batch, seq]``: their logits ``[batch, seq, vocab]``, and the new cache."""
        batch, new = ids.shape
        before = cache[0].shape()[2]
        positions = np.broadcast_to(np.arange(before, before + new), (batch, new))
        vocab = self._weights["model.embed_tokens.weight"][0]
        given = {
            "input_ids": onnxruntime.OrtValue.ortvalue_from_numpy(ids % vocab),
            "position_ids": onnxruntime.OrtValue.ortvalue_from_numpy(positions.copy()),
            **{past.name: value for past, value in zip(self._past, cache, strict=True)},
        }
        values = self._session.run_with_ort_values(self._outputs, given)
        by_name = dict(zip(self._outputs, values, strict=True))
        after = [by_name[PRESENT + past.name.removeprefix(PAST)] for past in self._past]
        return by_name["logits"].numpy(), after


def greedy(logits: np.ndarray) -> np.ndarray:
    """Return the most probable next tokens ``[batch, 1]`` of logits ``[batch, seq, vocab]``."""
    return logits[:, -1:].argmax(-1)


def load(path: Path, threads: int, _options: dict[str, str]) -> OnnxRuntime:
    """Load the file at `path`."""
    return OnnxRuntime(path, threads)


if __name__ == "__main__":
    serve(load)
