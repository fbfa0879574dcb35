"""Attention of one layer: decode steps and causal prefill of one sequence over the paged cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tvm

from benchmarks.glm4_9b import SPEC
from benchmarks.measure import Case, timed
from schedules.gqa_attention import attention_product, gqa_attention_kernel
from schedules.gqa_product import Product
from schedules.kv_cache import WORD_VALUES, key_cache_shape, position_bytes, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.machine.memory import cold, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

DECODE_CONTEXTS = (1 << 10, 8 << 10, 32 << 10)
"""Positions that a decode step sees, its own included."""

PREFILLS = (512, 2048)
"""Tokens of a prompt."""

GROUPS = (1, 2, 4)
"""Query heads a KV head of other models than GLM, at the same number of KV heads."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield decode and prefill in every dtype of the cache, then other groups in bf16."""
    group = SPEC.heads // SPEC.kv_heads
    for dtype in WORD_VALUES:
        steps = [*((1, context) for context in DECODE_CONTEXTS), *((n, n) for n in PREFILLS)]
        yield from _cases(setup, group, dtype, steps)
    for other in GROUPS:
        yield from _cases(setup, other, "bfloat16", [(1, DECODE_CONTEXTS[1]), (2048, 2048)])


def _cases(setup: Setup, group: int, dtype: str, steps: list[tuple[int, int]]) -> Iterator[Case]:
    heads, scale = group * SPEC.kv_heads, SPEC.head_dim**-0.5
    kernel = gqa_attention_kernel(heads, SPEC.kv_heads, SPEC.head_dim, dtype, scale, setup.isa)
    run = setup.build(kernel)
    product = attention_product(dtype, SPEC.head_dim, setup.isa)
    yield from (_case(run, heads, product, new, context) for new, context in steps)


def _case(run: Callable[..., None], heads: int, product: Product, new: int, context: int) -> Case:
    """The last `new` of `context` positions; operations count the pairs that are not masked."""
    pages, dtype = -(-context // PAGE_SIZE), product.cache_dtype
    shapes = [
        layout(pages, SPEC.kv_heads, SPEC.head_dim, dtype)
        for layout in (key_cache_shape, value_cache_shape)
    ]
    nbytes = pages * PAGE_SIZE * position_bytes(SPEC.kv_heads, SPEC.head_dim, dtype)
    caches = cold(lambda: [_random_cache(shape, dtype) for shape in shapes], nbytes)
    query, out = (random_tensor((new, heads, SPEC.head_dim), "float32") for _ in range(2))
    index = [
        to_tvm(np.random.default_rng(0).permutation(pages)[None].astype(np.int32)),
        to_tvm(np.array([0, new], np.int32)),
        to_tvm(np.array([context], np.int32)),
    ]
    pairs = new * context - new * (new - 1) // 2
    return Case(
        "gqa_attention",
        f"{new} of {context} x {heads}/{SPEC.kv_heads} x {SPEC.head_dim} {dtype}",
        timed(lambda: run(query, *next(caches), *index, out)),
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
