"""OpenVINO on a directory that optimum-intel exported: a stateful request, fed token by token.

Options: ``group`` sets ``DYNAMIC_QUANTIZATION_GROUP_SIZE`` (0: activations stay 16-bit; 4096: a
whole row, its fastest), ``kv`` the cache's precision (``u8``, ``f16``, ...).

The head multiplies the last token alone, as openvino-genai has it: the graph is cut there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13

from benchmarks.peers.protocol import Adapter, Description, prompt, serve, versions

BYTES = {"u8": 1, "i8": 1, "f16": 2, "bf16": 2, "f32": 4}
"""Of one number in the cache."""


class OpenVino(Adapter):
    """A compiled model with one infer request, whose state is the KV cache."""

    def __init__(self, path: Path, threads: int, options: dict[str, str]) -> None:
        self._path = path
        self._config = json.loads((path / "config.json").read_text("utf-8"))
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if "group" in options:
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = options["group"]
        if "kv" in options:
            settings["KV_CACHE_PRECISION"] = options["kv"]
        self._settings = settings
        core = ov.Core()
        model = core.read_model(path / "openvino_model.xml")
        slice_before_head(model)
        self._model = core.compile_model(model, "CPU", settings)
        self._request = self._model.create_infer_request()
        self._inputs = {port.get_any_name() for port in self._model.inputs}
        self._length = self._batch = 0

    def describe(self) -> Description:
        """Say what was loaded."""
        config = self._config
        group = int(self._model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))
        kv = self._model.get_property("KV_CACHE_PRECISION").get_type_name()
        weights = self._path / "openvino_model.bin"
        stored = weights.stat().st_size
        # The table has one of two matrices of the vocabulary; all weights have the same type.
        parameters = _parameters(config)
        table = config["vocab_size"] * config["hidden_size"] / parameters
        heads = config["num_key_value_heads"] * config["head_dim"]
        return Description(
            name=f"openvino, group {group}",
            settings=", ".join(f"{key} {value}" for key, value in self._settings.items())
            + f", KV cache {kv}",
            versions=versions("openvino", "nncf"),
            weight_bytes=int(stored * (1 - table)),
            position_bytes=2 * config["num_hidden_layers"] * heads * BYTES[kv],
            unit="int8" if group else "bf16",
            context=config["max_position_embeddings"],
            weight_files=(str(weights.resolve()),),
        )

    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        self._forget(1)
        start = time.perf_counter()
        self._step(np.array([tokens]))
        return time.perf_counter() - start

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`; the state cannot be cut, so the context is computed before each sample."""
        self._forget(batch)
        self._step(np.array([prompt(context, seed=row) for row in range(batch)]))
        ids = np.ones((batch, 1), np.int64)
        start = time.perf_counter()
        for _ in range(steps):
            ids = self._step(ids)
        return time.perf_counter() - start

    def _forget(self, batch: int) -> None:
        self._request.reset_state()
        self._length, self._batch = 0, batch

    def _step(self, ids: np.ndarray) -> np.ndarray:
        """Run tokens ``[batch, seq]`` and return the greedy next ones ``[batch, 1]``."""
        batch, new = ids.shape
        total = self._length + new
        values = {
            "input_ids": ids % self._config["vocab_size"],
            "attention_mask": np.ones((batch, total), np.int64),
            "position_ids": np.broadcast_to(np.arange(self._length, total), (batch, new)),
            "beam_idx": np.arange(batch, dtype=np.int32),
        }
        given = {name: values[name] for name in values if name in self._inputs}
        logits = self._request.infer(given)["logits"]
        self._length = total
        return logits[:, -1:].argmax(-1)


def slice_before_head(model: ov.Model) -> None:
    """Let the last matrix product see the last position of ``[batch, seq, hidden]`` alone."""
    head = model.output("logits").get_node().input_value(0).get_node()
    while head.get_type_name() != "MatMul":
        head = head.input_value(0).get_node()
    hidden = head.input(0)
    last = opset13.slice(
        hidden.get_source_output(),
        np.array([-1]),
        np.array([np.iinfo(np.int64).max]),
        np.array([1]),
        np.array([1]),
    )
    hidden.replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


def _parameters(config: dict[str, Any]) -> int:
    """Return the numbers in all matrices of the model."""
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    width = config["num_attention_heads"] * head_dim
    key_value = config["num_key_value_heads"] * head_dim
    layer = hidden * (2 * width + 2 * key_value + 3 * config["intermediate_size"])
    return int(config["num_hidden_layers"] * layer + 2 * config["vocab_size"] * hidden)


def load(path: Path, threads: int, options: dict[str, str]) -> OpenVino:
    """Load the export in the directory `path`."""
    return OpenVino(path, threads, options)


if __name__ == "__main__":
    serve(load)
