"""Calls of the attention kernel, and dense fp64 attention to hold them against."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from schedules.gqa_attention import attention_product, gqa_attention_kernel
from schedules.isa import isa_of
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tests.schedules.paged_caches import (
    int8_key_cache_of,
    int8_value_cache_of,
    key_cache_of,
    value_cache_of,
)
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops import gqa_attention
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

SCALE = 2**-3 / np.log2(np.e)
"""Times log2(e), which the kernel scales by, a power of two: no query is rounded twice."""


@dataclass(frozen=True)
class Case:
    """The arguments of one call; caches hold NaN wherever no position was written."""

    query: np.ndarray
    key_cache: np.ndarray
    value_cache: np.ndarray
    page_table: np.ndarray
    query_start: np.ndarray
    kv_lens: np.ndarray

    @property
    def arrays(self) -> list[np.ndarray]:
        return list(vars(self).values())


def make_case(
    shape: tuple[int, int, int, str],
    batch: Sequence[tuple[int, int]],
    padding: int = 0,
    seed: int = 0,
    spread: float = 1.0,
) -> Case:
    heads, kv_heads, head_dim, dtype = shape
    rng = np.random.default_rng(seed)
    row_pages = max(1, max(-(-context // PAGE_SIZE) for _, context in batch)) + 1
    pages = len(batch) * row_pages + 3
    page_table = rng.permutation(pages)[: len(batch) * row_pages].reshape(len(batch), row_pages)
    key_PTKD, value_PTKD = (
        np.full((pages, PAGE_SIZE, kv_heads, head_dim), np.nan, np.float32) for _ in range(2)
    )
    for row, (_, context) in enumerate(batch):
        positions = np.arange(context)
        places = page_table[row, positions // PAGE_SIZE], positions % PAGE_SIZE
        key_PTKD[places] = rng.standard_normal((context, kv_heads, head_dim)) * spread
        value_PTKD[places] = rng.standard_normal((context, kv_heads, head_dim))
        page_table[row, -(-context // PAGE_SIZE) :] = -1  # entries behind the context are not read
    if dtype == "int8":
        key_cache, value_cache = int8_key_cache_of(key_PTKD), int8_value_cache_of(value_PTKD)
    else:
        key_cache = key_cache_of(key_PTKD.astype(DTYPES[dtype]))
        value_cache = value_cache_of(value_PTKD.astype(DTYPES[dtype]))
    counts = [count for count, _ in batch]
    query = rng.standard_normal((sum(counts) + padding, heads, head_dim), dtype=np.float32)
    query = query.astype(ml_dtypes.bfloat16).astype(np.float32)
    return Case(
        query=query,
        key_cache=key_cache,
        value_cache=value_cache,
        page_table=page_table.astype(np.int32),
        query_start=np.cumsum([0, *counts]).astype(np.int32),
        kv_lens=np.array([context for _, context in batch], np.int32),
    )


@functools.cache
def compiled(shape: tuple[int, int, int, str], target: str) -> Callable[..., None]:
    heads, kv_heads, head_dim, dtype = shape
    isa = isa_of(HOST_TARGETS[target])
    kernel = gqa_attention_kernel(heads, kv_heads, head_dim, dtype, SCALE, isa)
    return build_kernel(kernel, HOST_TARGETS[target])


def run(shape: tuple[int, int, int, str], case: Case, target: str = "native") -> np.ndarray:
    out = to_tvm(np.full_like(case.query, np.nan))
    compiled(shape, target)(*map(to_tvm, case.arrays), out)
    return to_numpy(out)


def reference(case: Case) -> np.ndarray:
    return gqa_attention.reference(case.query[None], *case.arrays[1:], scale=SCALE)[0]


def assert_close(got: np.ndarray, case: Case, dtype: str, target: str, **context: str) -> None:
    """Fail where `got` is further from dense attention than fp32 sums explain.

    Where products are of bf16, fp16 caches are rounded to it, and so are the weights: each is off
    by 2^-9 of itself at most, and so is their sum. Digits leave an error of 2^-16 of the largest
    number of a query, a tenth of what bf16 would.
    """
    atol: float | np.ndarray = 3e-6
    unit = attention_product(dtype, case.query.shape[-1], isa_of(HOST_TARGETS[target])).unit
    if unit == "int8":
        atol = 3e-4
    elif unit == "bf16":
        case = in_bf16(case)
        magnitude = replace(case, value_cache=np.abs(case.value_cache))
        atol = atol + 2**-8 * reference(magnitude)
    assert np.isfinite(got).all()
    assert (np.abs(got - reference(case)) <= atol).all(), context


def in_bf16(case: Case) -> Case:
    """The same with caches of bf16."""
    caches = (case.key_cache, case.value_cache)
    key_cache, value_cache = (cache.astype(ml_dtypes.bfloat16) for cache in caches)
    return replace(case, key_cache=key_cache, value_cache=value_cache)


def sub_batch(case: Case, row: int, first: int, last: int) -> Case:
    """Tokens `first` to `last` of one row, with the context they had."""
    start, end = case.query_start[row : row + 2]
    behind = (end - start) - last
    return Case(
        query=case.query[start + first : start + last],
        key_cache=case.key_cache,
        value_cache=case.value_cache,
        page_table=case.page_table[row : row + 1],
        query_start=np.array([0, last - first], np.int32),
        kv_lens=case.kv_lens[row : row + 1] - np.int32(behind),
    )
