"""Rows of the embedding table, each from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import tvm

from benchmarks.glm4_9b import SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.embedding import embedding_kernel
from tvm_vacc.machine.memory import large_tensor, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

MOST_CALLS = 16384
"""Calls with rows of their own: 16384 rows of 8 KiB exceed the caches."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a number of tokens, all over one table."""
    run = setup.build(embedding_kernel(SPEC.vocab, SPEC.hidden, "bfloat16", "int64", setup.isa))
    table = random_tensor((SPEC.vocab, SPEC.hidden), "bfloat16")
    yield from (_case(run, table, tokens) for tokens in TOKENS)


def _case(run: Callable[..., None], table: tvm.runtime.Tensor, tokens: int) -> Case:
    rng = np.random.default_rng(0)
    # Other rows every time, until all of the table was read.
    ids = cycle([to_tvm(part) for part in _split(rng.permutation(SPEC.vocab), tokens)])
    out = large_tensor((tokens, SPEC.hidden), "float32")
    return Case(
        "embedding",
        f"{tokens} of {SPEC.vocab} x {SPEC.hidden} bf16",
        timed(lambda: run(table, next(ids), out)),
        2.0 * tokens * SPEC.hidden,
        0.0,
        "fp32",
    )


def _split(ids: np.ndarray, tokens: int) -> list[np.ndarray]:
    return list(ids[: len(ids) // tokens * tokens].reshape(-1, tokens))[:MOST_CALLS]
