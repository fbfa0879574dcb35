"""Appending new positions to the KV cache of one layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np

from benchmarks.glm4_9b import SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.kv_append import kv_append_kernel
from schedules.kv_cache import key_cache_shape, position_bytes, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.machine.memory import large_tensor, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

CONTEXT = 1 << 17
"""Positions of the cache, over which the new ones are spread: 134 MB in 16 bits."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a number of tokens, in 16 and in 8 bits."""
    for dtype in ("bfloat16", "int8"):
        run = setup.build(kv_append_kernel(SPEC.kv_heads, SPEC.head_dim, dtype))
        yield from (_case(run, tokens, dtype) for tokens in TOKENS)


def _case(run: Callable[..., None], tokens: int, dtype: str) -> Case:
    pages = CONTEXT // PAGE_SIZE
    caches = [
        large_tensor(shape(pages, SPEC.kv_heads, SPEC.head_dim, dtype), dtype)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    new = (tokens, SPEC.kv_heads, SPEC.head_dim)
    key, value = (random_tensor(new, "float32", seed=seed) for seed in range(2))
    starts = range(0, CONTEXT - tokens + 1, max(tokens, PAGE_SIZE))
    slots = cycle([to_tvm(np.arange(start, start + tokens, dtype=np.int32)) for start in starts])
    return Case(
        "kv_append",
        f"{tokens} x {SPEC.kv_heads} x {SPEC.head_dim} {dtype}",
        timed(lambda: run(key, value, next(slots), *caches)),
        float(tokens * position_bytes(SPEC.kv_heads, SPEC.head_dim, dtype)),
        0.0,
        "fp32",
    )
