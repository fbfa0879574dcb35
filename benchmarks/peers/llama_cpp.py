"""llama.cpp on a GGUF file that ``python -m benchmarks gguf`` wrote, through its C interface.

Options: ``kv`` is the type of the cache (``f16``, llama.cpp's default, or ``q8_0``), ``flash``
whether attention runs in one kernel (``yes`` or ``no``; by default llama.cpp decides).

In a prompt llama.cpp computes the last layer's MLP for the last token alone: with GLM-4-9B's shapes
that saves it a fifth of the work of a prompt over 4 layers, and one part in fifty over 40.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any, TypeVar

import gguf
import llama_cpp as llama
import numpy as np

from benchmarks.peers.protocol import Adapter, Description, prompt, serve, versions

KV_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0}
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
"""Of one number in the cache: 32 codes of q8_0 share a 16-bit scale."""

FLASH = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "yes": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "no": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}

UNITS = {"q8_0": "int8", "q4_0": "int8", "bf16": "bf16"}
"""What the kernels multiply, by the type of the weights; f16 becomes fp32."""

TABLE, HEAD = "token_embd.weight", "output.weight"

SPARE_POSITIONS = 256
"""Positions a sequence of a new context has beyond what is asked for."""

Value = TypeVar("Value")


class LlamaCpp(Adapter):
    """A loaded model; the context of the last batch stays, with what it has cached."""

    def __init__(self, path: Path, threads: int, options: dict[str, str]) -> None:
        self._path, self._threads = path, threads
        self._kv = options.get("kv", "f16")
        self._kv_type = chosen("kv", self._kv, KV_TYPES)
        self._flash = options.get("flash", "auto")
        self._flash_type = chosen("flash", self._flash, FLASH)
        llama.llama_backend_init()
        model = llama.llama_model_load_from_file(
            str(path).encode(), llama.llama_model_default_params()
        )
        if not model:
            raise SystemExit(f"{path}: llama.cpp cannot load it")
        self._model = model
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self._context: Any = None
        self._batch = self._outputs_most = self._capacity = 0
        self._cached: list[int] = []

    def describe(self) -> Description:
        """Say what was loaded."""
        reader = gguf.GGUFReader(self._path)
        sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
        kind, head = file_type(reader), head_type(reader)
        head_dim = llama.llama_model_n_embd(self._model) // llama.llama_model_n_head(self._model)
        kv_numbers = 2 * llama.llama_model_n_head_kv(self._model) * head_dim
        layers = llama.llama_model_n_layer(self._model)
        # Where the head is the table, a step reads it whole.
        table = sizes[TABLE] if HEAD in sizes else 0
        return Description(
            name=f"llama.cpp {kind}"
            + (f", {head} head" if head != kind else "")
            + (f", {self._kv} KV" if self._kv != "f16" else ""),
            settings=f"KV cache {self._kv}, flash attention {self._flash}, ubatch 512",
            versions=versions("llama-cpp-python"),
            weight_bytes=sum(sizes.values()) - table,
            position_bytes=int(layers * kv_numbers * KV_BYTES[self._kv]),
            unit=UNITS.get(kind, "fp32"),
            context=llama.llama_model_n_ctx_train(self._model),
            weight_files=(str(self._path.resolve()),),
        )

    def prefill(self, tokens: list[int]) -> float:
        """See `Adapter`."""
        self._prepare_context(1, len(tokens))
        self._cut(0)
        start = time.perf_counter()
        self._run([self._ids(tokens)], 0)
        self._greedy(1)
        seconds = time.perf_counter() - start
        self._cached = [len(tokens)]
        self._cut(0)
        return seconds

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Adapter`."""
        self._prepare_context(batch, context + steps)
        self._cut(context)
        for row, done in enumerate(self._cached):
            if done < context:
                missing = self._ids(prompt(context, seed=row)[done:])
                self._run([missing], done, first_sequence=row)
        self._cached = [context + steps] * batch
        tokens = [1] * batch
        start = time.perf_counter()
        for step in range(steps):
            self._run([[token] for token in tokens], context + step)
            tokens = self._greedy(batch)
        seconds = time.perf_counter() - start
        self._cut(context)
        return seconds

    def logits(self, steps: list[list[int]]) -> np.ndarray:
        """See `Adapter`."""
        self._prepare_context(1, sum(map(len, steps)), outputs=max(map(len, steps)))
        self._cut(0)
        parts = []
        for step in steps:
            self._run([step], self._cached[0], all_logits=True)
            self._cached[0] += len(step)
            parts.append(self._outputs(len(step)).copy())
        return np.concatenate(parts)

    def _prepare_context(self, batch: int, positions: int, outputs: int | None = None) -> None:
        """Have a context of `batch` sequences of at least `positions`, each with its own cache."""
        outputs = outputs or batch
        fits = outputs <= self._outputs_most and positions <= self._capacity
        if batch == self._batch and fits:
            return
        if self._context:
            llama.llama_free(self._context)
        self._batch, self._outputs_most = batch, outputs
        self._capacity = positions + SPARE_POSITIONS
        self._cached = [0] * batch
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = batch * self._capacity
        parameters.n_seq_max = batch
        parameters.n_outputs_max = outputs
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.type_k = parameters.type_v = self._kv_type
        parameters.flash_attn_type = self._flash_type
        self._context = llama.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise SystemExit(f"{self._path}: llama.cpp cannot make a context of {batch} sequences")

    def _cut(self, length: int) -> None:
        """Forget what is cached beyond `length`."""
        memory = llama.llama_get_memory(self._context)
        for sequence, done in enumerate(self._cached):
            if done > length:
                llama.llama_memory_seq_rm(memory, sequence, length, -1)
                self._cached[sequence] = length

    def _run(
        self,
        rows: list[list[int]],
        position: int,
        *,
        first_sequence: int = 0,
        all_logits: bool = False,
    ) -> None:
        """Append to one sequence a row; the last token of each, or every one, gets its logits."""
        count = sum(map(len, rows))
        batch = llama.llama_batch_init(count, 0, 1)
        index = 0
        for sequence, row in enumerate(rows, start=first_sequence):
            for offset, token in enumerate(row):
                batch.token[index] = token
                batch.pos[index] = position + offset
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = all_logits or offset == len(row) - 1
                index += 1
        batch.n_tokens = count
        status = llama.llama_decode(self._context, batch)
        llama.llama_batch_free(batch)
        if status:
            raise SystemExit(f"llama_decode of {count} tokens at {position} returned {status}")

    def _outputs(self, count: int) -> np.ndarray:
        """Return the logits ``[count, vocab]`` of the last run, as they lie in llama.cpp."""
        pointer = llama.llama_get_logits(self._context)
        return np.ctypeslib.as_array(
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (count, self._vocab)
        )

    def _greedy(self, rows: int) -> list[int]:
        # A plain search: llama.cpp's greedy sampler makes a list of the vocabulary before.
        return self._outputs(rows).argmax(-1).tolist()

    def _ids(self, tokens: list[int]) -> list[int]:
        return [token % self._vocab for token in tokens]


def chosen(name: str, value: str, values: dict[str, Value]) -> Value:
    """Return what an option stands for; ends the program with one line where it is unknown."""
    if value not in values:
        raise SystemExit(f"option {name}={value}: choose of {', '.join(values)}")
    return values[value]


def file_type(reader: gguf.GGUFReader) -> str:
    """Return the type of the weights as llama.cpp names it: ``q8_0``."""
    field = reader.get_field("general.file_type")
    if field is None:
        return "gguf"
    return gguf.LlamaFileType(field.contents()).name.removeprefix("MOSTLY_").lower()


def head_type(reader: gguf.GGUFReader) -> str:
    """Return the type of the head, which is the embedding table where it has none of its own."""
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in reader.tensors}
    return types.get(HEAD, types[TABLE])


def load(path: Path, threads: int, options: dict[str, str]) -> LlamaCpp:
    """Load the file at `path`."""
    return LlamaCpp(path, threads, options)


if __name__ == "__main__":
    serve(load, "kv", "flash")
