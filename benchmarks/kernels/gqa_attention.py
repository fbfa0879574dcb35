"""Attention of one layer: decode steps of one or eight sequences, and causal prefill of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import numpy as np
import tvm

from benchmarks.glm4_9b import SPEC
from benchmarks.measure import Case, timed
from schedules.gqa_attention import attention_product, gqa_attention_kernel
from schedules.gqa_product import Product
from schedules.kv_cache import WORD_VALUES, key_cache_shape, position_bytes, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.machine.memory import cold_bytes, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

DECODE_CONTEXTS = (1 << 10, 8 << 10, 32 << 10)
"""Positions that a decode step sees, its own included."""

SHORT_CONTEXTS = (16, 64, 256)
"""Likewise: where a cache of 8 bits has the fewest bytes to save."""

BATCHES = (1, 8)
"""Sequences of a decode step, for the caches that are compared."""

COMPARED = ("bfloat16", "int8")

PREFILLS = (512, 2048)
"""Tokens of a prompt."""

GROUPS = (1, 2, 4)
"""Query heads a KV head of other models than GLM, at the same number of KV heads."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield decode and prefill in every dtype of the cache, then other groups in bf16."""
    group = SPEC.heads // SPEC.kv_heads
    for dtype in WORD_VALUES:
        is_compared = dtype in COMPARED
        contexts = [*(SHORT_CONTEXTS if is_compared else ()), *DECODE_CONTEXTS]
        batches = BATCHES if is_compared else BATCHES[:1]
        steps = [(rows, 1, context) for context in contexts for rows in batches]
        yield from _cases(setup, group, dtype, [*steps, *((1, n, n) for n in PREFILLS)])
    for other in GROUPS:
        yield from _cases(setup, other, "bfloat16", [(1, 1, DECODE_CONTEXTS[1]), (1, 2048, 2048)])


def _cases(
    setup: Setup, group: int, dtype: str, steps: list[tuple[int, int, int]]
) -> Iterator[Case]:
    heads, scale = group * SPEC.kv_heads, SPEC.head_dim**-0.5
    kernel = gqa_attention_kernel(heads, SPEC.kv_heads, SPEC.head_dim, dtype, scale, setup.isa)
    run = setup.build(kernel)
    product = attention_product(dtype, SPEC.head_dim, setup.isa)
    yield from (_case(run, heads, product, *step) for step in steps)


def _case(
    run: Callable[..., None], heads: int, product: Product, rows: int, new: int, context: int
) -> Case:
    """The last `new` of `context` positions of `rows` sequences.

    Their pages lie anywhere in a pool that no cache holds, and every call reads others. Operations
    count the pairs that are not masked.
    """
    pages, dtype = -(-context // PAGE_SIZE), product.cache_dtype
    page_bytes = PAGE_SIZE * position_bytes(SPEC.kv_heads, SPEC.head_dim, dtype)
    nbytes = rows * pages * page_bytes
    calls = -(-cold_bytes() // nbytes)
    pool = calls * rows * pages
    caches = [
        _random_cache(layout(pool, SPEC.kv_heads, SPEC.head_dim, dtype), dtype)
        for layout in (key_cache_shape, value_cache_shape)
    ]
    order = np.random.default_rng(0).permutation(pool).astype(np.int32)
    tables = cycle([to_tvm(table) for table in order.reshape(calls, rows, pages)])
    query, out = (random_tensor((rows * new, heads, SPEC.head_dim), "float32") for _ in range(2))
    starts, lengths = np.arange(rows + 1) * new, np.full(rows, context)
    ends = [to_tvm(index.astype(np.int32)) for index in (starts, lengths)]
    pairs = rows * (new * context - new * (new - 1) // 2)
    batch = f"{rows} x " if rows > 1 else ""
    return Case(
        "gqa_attention",
        f"{batch}{new} of {context} x {heads}/{SPEC.kv_heads} x {SPEC.head_dim} {dtype}",
        timed(lambda: run(query, *caches, next(tables), *ends, out)),
        float(nbytes),
        4.0 * pairs * heads * SPEC.head_dim * product.multiplications,
        product.unit,
    )


def _random_cache(shape: tuple[int, ...], dtype: str) -> tvm.runtime.Tensor:
    """Return a cache of random values, codes with a scale that suits them."""
    cache = random_tensor(shape, dtype)
    if dtype == "int8":
        scales = np.full((*shape[:-2], PAGE_SIZE), 0.01, np.float32)
        np.from_dlpack(cache)[..., -1, :] = scales.view(np.int8)
    return cache
