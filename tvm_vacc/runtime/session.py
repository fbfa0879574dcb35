"""One conversation: its KV cache stays between prompts, a common beginning is computed once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.sampling import SamplingParams

if TYPE_CHECKING:
    from tvm_vacc.runtime.model import Model


@dataclass
class Stats:
    """Figures of one answer.

    Attributes:
        prompt_tokens: tokens of the prompt.
        reused_tokens: of these, found in the KV cache of the session.
        generated_tokens: tokens yielded so far.
        first_token_seconds: from the request to the first token.
        decode_seconds: from the first token to the last so far.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    first_token_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Decode speed: tokens after the first, by the time they took; 0 for a single token."""
        return (self.generated_tokens - 1) / self.decode_seconds if self.decode_seconds else 0.0


class Session:
    """A sequence in a model's KV cache, and the figures of its last answer.

    Use it as a context manager, or call `close`: its pages then go back to the pool.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sequence = Sequence()
        self.stats = Stats()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything and give the pages back; the session may be used again."""
        self.reset()

    def reset(self) -> None:
        """Forget the conversation."""
        self._model.pool.truncate(self._sequence, 0)

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
        """Yield the ids of the answer; see `Model.generate`.

        `token_ids` is the whole conversation: as much of its beginning as is still in the cache is
        not computed again. An answer that is not read to its end stops there.
        """
        params = SamplingParams(temperature, top_p, top_k, seed)
        if max_new_tokens < 0:
            raise RequestError(f"max_new_tokens is {max_new_tokens}", "give a whole number >= 0")
        self._model.check_prompt(token_ids, len(token_ids))
        stops = frozenset(self._model.spec.eos_token_ids if stop_ids is None else stop_ids)
        return self._answer(list(token_ids), max_new_tokens, params, stops)

    def _answer(
        self, prompt: list[int], max_new_tokens: int, params: SamplingParams, stops: frozenset[int]
    ) -> Iterator[int]:
        model, sequence = self._model, self._sequence
        random = np.random.default_rng(params.seed)
        reused = self._keep_common_prefix(prompt)
        self.stats = Stats(prompt_tokens=len(prompt), reused_tokens=reused)
        start = first = time.perf_counter()
        if not max_new_tokens:
            return
        logits = model.prefill(sequence, prompt[reused:])
        while True:
            token = model.sample(logits, params, float(random.random(dtype=np.float32)))
            now = time.perf_counter()
            if not self.stats.generated_tokens:
                first = now
                self.stats.first_token_seconds = now - start
            if token in stops:
                return
            self.stats.generated_tokens += 1
            self.stats.decode_seconds = now - first
            yield token
            if self.stats.generated_tokens == max_new_tokens or len(sequence) == model.context:
                return
            logits = model.step([Row(sequence, [token])])

    def _keep_common_prefix(self, prompt: list[int]) -> int:
        """Cut the cache to what it shares with `prompt`; the last token is always computed."""
        cached = self._sequence.tokens
        common = 0
        for old, new in zip(cached, prompt[:-1], strict=False):
            if old != new:
                break
            common += 1
        self._model.pool.truncate(self._sequence, common)
        return common
