"""Runs a language model's C sources: weights mapped by NumPy, calls through ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from tests.codegen_c.c_build import arguments_type, pointer
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.artifact.mapped_weights import map_weights
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.limits import MAX_SEQUENCES, PAGE_SIZE
from tvm_vacc.runtime.batch import Row, make_batch
from tvm_vacc.runtime.kv_cache import PagePool, Sequence


class CModel:
    """An artefact of C sources, built as the shared library `library`."""

    def __init__(self, artefact: Path, library: Path) -> None:
        manifest = read_manifest(artefact / MANIFEST_NAME)
        tensors = {
            name: tensor.numpy()
            for file in manifest.weights
            for name, tensor in map_weights(artefact / file).items()
        }
        assert manifest.context is not None
        assert manifest.prefill is not None
        self.prefill = manifest.prefill
        self.pages = MAX_SEQUENCES * (manifest.context // PAGE_SIZE)
        self.pool = PagePool(self.pages)
        caches = [
            np.zeros((self.pages, *cache.shape[1:]), NUMPY_DTYPES[cache.dtype])
            for cache in manifest.caches
        ]
        self.kept = [*caches, *(tensors[name] for name in manifest.parameters)]
        addresses = [array.ctypes.data for array in self.kept]
        self.params = (ctypes.c_void_p * len(addresses))(*addresses)
        self.code = ctypes.CDLL(str(library))
        self.header = (artefact / "vacc_model.h").read_text()

    def call(self, function: str, output: np.ndarray, **arguments: Any) -> int:
        """Call a function of ``vacc_model.h`` and return its status."""
        struct = arguments_type(self.header, function)(
            **{
                name: pointer(value) if isinstance(value, np.ndarray) else value
                for name, value in arguments.items()
            },
            output=pointer(output),
        )
        measure = getattr(self.code, f"{function}_workspace")
        measure.restype = ctypes.c_size_t
        workspace = np.full(measure(ctypes.byref(struct)) + 64, 0xFF, np.uint8)  # NaN everywhere
        start = -workspace.ctypes.data % 64
        return getattr(self.code, function)(
            ctypes.byref(struct), ctypes.c_void_p(workspace.ctypes.data + start)
        )

    def step(self, sequence: Sequence, tokens: list[int], *, all_logits: bool) -> np.ndarray:
        """Append `tokens` and return their logits ``[outputs, vocab]``."""
        batch = make_batch([Row(sequence, tokens, all_logits=all_logits)], self.pool)
        vocab = int(self.header.split("float *output; /* [outputs, ")[1].split("]")[0])
        logits = np.full((len(batch.logit_rows), vocab), np.nan, np.float32)
        status = self.call(
            "vacc_forward",
            logits,
            seq=len(tokens),
            rows=1,
            pages_per_row=batch.page_table.shape[1],
            outputs=len(batch.logit_rows),
            pages=self.pages,
            model_params=ctypes.cast(self.params, ctypes.c_void_p),
            **vars(batch),
        )
        assert status == 0
        return logits

    def sample(self, logits: np.ndarray) -> int:
        """Return the greedy token of ``logits [1, vocab]``."""
        token = np.full(1, -1, np.int32)
        one = np.ones(1, np.float32)
        none = np.zeros(1, np.float32)
        status = self.call(
            "vacc_sample",
            token,
            rows=1,
            logits=logits,
            temperature=none,
            top_p=one,
            top_k=np.zeros(1, np.int32),
            uniform=none,
        )
        assert status == 0
        return int(token[0])

    def generate(self, prompt: list[int], count: int) -> list[int]:
        """Return `count` greedy tokens after `prompt`, which is fed in pieces."""
        sequence = Sequence()
        for start in range(0, len(prompt), self.prefill):
            piece = prompt[start : start + self.prefill]
            logits = self.step(sequence, piece, all_logits=False)
        tokens = [self.sample(logits)]
        while len(tokens) < count:
            tokens.append(self.sample(self.step(sequence, tokens[-1:], all_logits=False)))
        return tokens
