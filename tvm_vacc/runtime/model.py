"""A compiled language model: maps its weights, keeps its KV cache, runs batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Rows
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import tvm

from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.errors import ArtifactError, RequestError
from tvm_vacc.limits import MAX_SEQUENCES, PAGE_SIZE
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.runtime.batch import Row, make_batch
from tvm_vacc.runtime.executable import on_own_cpu
from tvm_vacc.runtime.kv_cache import PagePool, Sequence
from tvm_vacc.runtime.sampling import SamplingParams
from tvm_vacc.runtime.session import Session
from tvm_vacc.runtime.tensors import Arguments
from tvm_vacc.runtime.timed_call import TimedCall
from tvm_vacc.runtime.tokenizer import Tokenizer

PREFILL_STEP = 512
"""Tokens of a prompt a step, at most: kernels are at their peak, and activations are a quarter of
those of 2048 tokens."""


class Model:
    """A loaded artefact of a language model.

    One thread at a time may call it. Make it with `tvm_vacc.load`.

    Attributes:
        path: the artefact's directory.
        manifest: what the artefact says of itself.
        spec: the model's dimensions and end tokens.
        context: longest sequence in tokens, prompt and answer together.
        prefill_tokens: largest number of new tokens of one step.
        machine: the virtual machine that runs it.
        params: the caches, then the weights, as the compiled function takes them.
        forward: the compiled function.
        draw: the compiled function that draws tokens.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        machine: tvm.relax.VirtualMachine,
        weights: list[tvm.runtime.Tensor],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.spec = ModelSpec.from_json(manifest.model_spec)
        if manifest.prefill is None or manifest.context is None:
            raise ArtifactError(f"{path}: its manifest lacks prefill or context", "compile again")
        self.prefill_tokens, self.context = manifest.prefill, manifest.context
        pages = MAX_SEQUENCES * (self.context // PAGE_SIZE)
        self.pool = PagePool(pages)
        # Memory that no kernel has written costs nothing: the system hands out pages at first use.
        caches = [
            tvm.runtime.empty((pages, *cache.shape[1:]), cache.dtype) for cache in manifest.caches
        ]
        self.params = tvm.runtime.convert([*caches, *weights])
        self.machine = machine
        self.forward = TimedCall(machine["forward"])
        self.draw = TimedCall(machine["sample"])
        self._step_arguments, self._sample_arguments = Arguments(), Arguments()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer.

        Raises:
            RequestError: the artefact was compiled from a checkpoint without one; names the file.
        """
        return Tokenizer.from_directory(self.path)

    def session(self) -> Session:
        """Return an empty session, whose KV cache lives until it is closed."""
        return Session(self)

    def step(self, rows: Rows[Row]) -> tvm.runtime.Tensor:
        """Run the new tokens of all `rows` and append them to their sequences.

        At most `prefill_tokens` tokens in all; rows may have any lengths.

        Returns:
            ``[outputs, vocab]`` fp32: the logits that the rows asked for, one row after the other.

        Raises:
            RequestError: the KV cache is full; no sequence has changed.
        """
        arguments = self._step_arguments.put(make_batch(rows, self.pool).arrays())
        with on_own_cpu():
            return self.forward(*arguments, self.params)

    def prefill(self, sequence: Sequence, tokens: Rows[int]) -> tvm.runtime.Tensor:
        """Append `tokens` in chunks of `PREFILL_STEP`; return the last logits ``[1, vocab]``."""
        chunk = min(self.prefill_tokens, PREFILL_STEP)
        for start in range(0, len(tokens), chunk):
            logits = self.step([Row(sequence, list(tokens[start : start + chunk]))])
        return logits

    def sample(self, logits: tvm.runtime.Tensor, params: SamplingParams, uniform: float) -> int:
        """Draw one token id from ``logits [1, vocab]``; `uniform` in [0, 1) decides."""
        return self.sample_rows(logits, [params], [uniform])[0]

    def sample_rows(
        self, logits: tvm.runtime.Tensor, params: Rows[SamplingParams], uniforms: Rows[float]
    ) -> list[int]:
        """Draw one token id a row of ``logits [rows, vocab]``, each row in its own way."""
        arrays = [
            np.array([row.temperature for row in params], np.float32),
            np.array([row.top_p for row in params], np.float32),
            np.array([row.top_k for row in params], np.int32),
            np.array(uniforms, np.float32),
        ]
        return self.draw(logits, *self._sample_arguments.put(arrays)).numpy().tolist()

    def logits(self, token_ids: Rows[int]) -> np.ndarray:
        """Return the logits of every token of a fresh sequence: fp32 ``[len(token_ids), vocab]``.

        Raises:
            RequestError: no token, a token out of the vocabulary, or more than the context holds.
        """
        self.check_prompt(token_ids, len(token_ids))
        chunk = self.prefill_tokens
        with self.temporary_sequence() as sequence:
            parts = [
                self.step([Row(sequence, list(token_ids[i : i + chunk]), all_logits=True)]).numpy()
                for i in range(0, len(token_ids), chunk)
            ]
        return np.concatenate(parts)

    def generate(
        self,
        token_ids: Rows[int],
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop_ids: Rows[int] | None = None,
    ) -> Iterator[int]:
        """Yield the ids of the answer to a prompt, as they are computed.

        Args:
            token_ids: the prompt.
            max_new_tokens: the answer ends after so many, or when the context is full.
            temperature: divides the logits; 0 takes the most probable token.
            top_p: probability mass the draw is limited to.
            top_k: number of tokens the draw is limited to; 0 means all.
            seed: makes the draw repeatable.
            stop_ids: tokens that end the answer and are not yielded; None means the model's own
                end tokens, an empty list none.

        Raises:
            RequestError: at the call, before any work: an empty or too long prompt, a token out
                of the vocabulary, a sampling parameter out of its range.
        """
        session = self.session()
        answer = session.generate(
            token_ids, max_new_tokens, temperature, top_p, top_k, seed, stop_ids
        )

        def run() -> Iterator[int]:
            with session:
                yield from answer

        return run()

    @contextmanager
    def temporary_sequence(self) -> Iterator[Sequence]:
        """Lend an empty sequence whose pages go back to the pool at the end."""
        sequence = Sequence()
        try:
            yield sequence
        finally:
            self.pool.truncate(sequence, 0)

    def check_prompt(self, token_ids: Rows[int], limit: int) -> None:
        """Refuse a prompt that cannot be run.

        Raises:
            RequestError: see `generate`.
        """
        if not token_ids:
            raise RequestError("the prompt is empty", "give at least one token")
        for token in token_ids:
            if not 0 <= token < self.spec.vocab:
                raise RequestError(
                    f"token {token} is not in the vocabulary",
                    f"give tokens from 0 to {self.spec.vocab - 1}",
                )
        if len(token_ids) > self.context:
            raise RequestError(
                f"the prompt has {len(token_ids)} tokens, the model was compiled for "
                f"{self.context}",
                "shorten it, or compile with a larger --context",
            )
