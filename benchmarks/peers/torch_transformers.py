"""torch through transformers: ``torch_transformers[:compiled=yes]`` on a checkpoint's directory.

Weights and cache in the checkpoint's own dtype, attention by torch's scaled-dot-product kernel.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.peers.protocol import Adapter, Description, prompt, serve, versions


class Torch(Adapter):
    """A model of transformers; the cache of the last batch stays."""

    def __init__(self, path: Path, threads: int, *, compiled: bool) -> None:
        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(
            path, dtype="auto", local_files_only=True
        ).eval()
        self._compiled = compiled
        self._files = tuple(str(file.resolve()) for file in sorted(path.glob("*.safetensors")))
        self._forward = torch.compile(self._model, dynamic=True) if compiled else self._model
        self._cache = DynamicCache()
        self._batch = 0

    def describe(self) -> Description:
        """Say what was loaded."""
        config = self._model.config
        table = self._model.get_input_embeddings().weight
        weights = sum(tensor.nbytes for tensor in self._model.parameters())
        heads = config.num_key_value_heads * config.head_dim
        dtype = str(self._model.dtype).removeprefix("torch.")
        return Description(
            name=f"torch {dtype} {'compiled' if self._compiled else 'eager'}",
            settings="transformers, attention sdpa",
            versions=versions("torch", "transformers"),
            weight_bytes=weights - table.nbytes,
            position_bytes=2 * config.num_hidden_layers * heads * table.element_size(),
            unit="fp32" if dtype == "float32" else "bf16",
            context=config.max_position_embeddings,
            weight_files=self._files,
        )

    @torch.inference_mode()
    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        ids = self._ids([tokens])
        start = time.perf_counter()
        self._step(ids, DynamicCache())
        return time.perf_counter() - start

    @torch.inference_mode()
    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`."""
        self._prepare(context, batch)
        ids = self._ids([[1]] * batch)
        start = time.perf_counter()
        for _ in range(steps):
            ids = self._step(ids, self._cache)
        seconds = time.perf_counter() - start
        self._cut(context)
        return seconds

    @torch.inference_mode()
    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """See `Adapter`."""
        cache = DynamicCache()
        parts = [
            self._forward(input_ids=self._ids([step]), past_key_values=cache, use_cache=True)
            for step in steps
        ]
        return torch.cat([part.logits[0] for part in parts]).float().numpy()

    def _prepare(self, context: int, batch: int) -> None:
        if batch != self._batch:
            self._cache, self._batch = DynamicCache(), batch
        self._cut(context)
        done = self._cache.get_seq_length()
        if done < context:
            missing = [prompt(context, seed=row)[done:] for row in range(batch)]
            self._step(self._ids(missing), self._cache)

    def _cut(self, length: int) -> None:
        """Forget what is cached beyond `length`."""
        beyond = self._cache.get_seq_length() - length
        if beyond > 0:
            self._cache.crop(-beyond)

    def _step(self, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Run tokens ``[batch, seq]`` and return the greedy next ones ``[batch, 1]``."""
        out = self._forward(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:].argmax(-1)

    def _ids(self, tokens: list[list[int]]) -> torch.Tensor:
        return torch.tensor(tokens) % self._model.config.vocab_size


def load(path: Path, threads: int, options: dict[str, str]) -> Torch:
    """Load the checkpoint at `path`."""
    return Torch(path, threads, compiled=options.get("compiled") == "yes")


if __name__ == "__main__":
    serve(load, "compiled")
