"""OpenVINO on a directory that optimum-intel exported: a stateful request, fed token by token.

Options: ``group`` sets ``DYNAMIC_QUANTIZATION_GROUP_SIZE`` (0: activations stay 16-bit; 4096: a
whole row, its fastest), ``kv`` the cache's precision (``u8``, ``f16``, ...).

The head multiplies the last token alone, as openvino-genai has it: the graph is cut there.
"""

from __future__ import annotations

import json
import time
from functools import cached_property
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
        self._model = self._compile(last_alone=True)
        self._request = self._model.create_infer_request()
        self._inputs = {port.get_any_name() for port in self._model.inputs}
        self._length = 0

    def _compile(self, *, last_alone: bool) -> ov.CompiledModel:
        """Compile the model; `last_alone`: the head sees the last position only."""
        core = ov.Core()
        model = core.read_model(self._path / "openvino_model.xml")
        if last_alone:
            slice_before_head(model)
        return core.compile_model(model, "CPU", self._settings)

    @cached_property
    def _whole(self) -> ov.InferRequest:
        """A request that gives the logits of every position."""
        return self._compile(last_alone=False).create_infer_request()

    def describe(self) -> Description:
        """Say what was loaded."""
        config = self._config
        group = int(self._model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))
        kv = self._model.get_property("KV_CACHE_PRECISION").get_type_name()
        precision = self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        weights = self._path / "openvino_model.bin"
        stored = weights.stat().st_size
        # The table has one of two matrices of the vocabulary; all weights have the same type.
        parameters = _parameters(config)
        table = config["vocab_size"] * config["hidden_size"] / parameters
        heads = config["num_key_value_heads"] * config["head_dim"]
        return Description(
            name=f"openvino int8, group {group}, {kv} KV",
            settings=", ".join(f"{key} {value}" for key, value in self._settings.items())
            + f", inference in {precision}",
            versions=versions("openvino", "nncf"),
            weight_bytes=int(stored * (1 - table)),
            position_bytes=2 * config["num_hidden_layers"] * heads * BYTES[kv],
            unit="int8" if group else "bf16",
            context=config["max_position_embeddings"],
            weight_files=(str(weights.resolve()),),
        )

    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        self._forget(self._request)
        start = time.perf_counter()
        greedy(self._step(self._request, np.array([tokens])))
        return time.perf_counter() - start

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`; the state cannot be cut, so the context is computed before each sample."""
        request = self._request
        self._forget(request)
        self._step(request, np.array([prompt(context, seed=row) for row in range(batch)]))
        ids = np.ones((batch, 1), np.int64)
        start = time.perf_counter()
        for _ in range(steps):
            ids = greedy(self._step(request, ids))
        return time.perf_counter() - start

    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """See `Adapter`."""
        self._forget(self._whole)
        parts = [self._step(self._whole, np.array([step]))[0].copy() for step in steps]
        return np.concatenate(parts)

    def _forget(self, request: ov.InferRequest) -> None:
        request.reset_state()
        self._length = 0

    def _step(self, request: ov.InferRequest, ids: np.ndarray) -> np.ndarray:
        """Run tokens ``[batch, seq]`` and return logits ``[batch, seq or 1, vocab]``."""
        batch, new = ids.shape
        total = self._length + new
        values = {
            "input_ids": ids % self._config["vocab_size"],
            "attention_mask": np.ones((batch, total), np.int64),
            "position_ids": np.broadcast_to(np.arange(self._length, total), (batch, new)),
            "beam_idx": np.arange(batch, dtype=np.int32),
        }
        given = {name: values[name] for name in values if name in self._inputs}
        logits = request.infer(given)["logits"]
        self._length = total
        return logits


def greedy(logits: np.ndarray) -> np.ndarray:
    """Return the most probable next tokens ``[batch, 1]`` of logits ``[batch, seq, vocab]``."""
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
    serve(load, "group", "kv")
