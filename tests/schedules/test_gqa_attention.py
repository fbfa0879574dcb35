"""The attention kernel against dense fp64 attention: shapes, batches, masks, independence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.gqa_attention import attention_product, gqa_attention_kernel
from schedules.gqa_shape import SEGMENT
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

SHAPES = [
    # heads, kv_heads, head_dim, cache dtype: every group size, head_dim and dtype, and odd ones.
    (3, 3, 32, "float16"),
    (4, 2, 48, "bfloat16"),
    (8, 2, 64, "float32"),
    (32, 2, 128, "float16"),
    (16, 1, 48, "bfloat16"),
    (7, 1, 80, "float32"),
    (24, 1, 16, "float16"),
    (4, 1, 32, "bfloat16"),
    (3, 3, 64, "bfloat16"),
    (32, 2, 128, "int8"),
    (3, 3, 48, "int8"),
    (7, 1, 80, "int8"),
]

FEW = [0, 1, 2, 3, 10]
"""Of `SHAPES`, for targets that differ little from another."""

BATCHES = [
    # (new tokens, context with them) of every row
    [(1, 1)],
    [(1, 15), (1, 16), (1, 17), (1, 1), (1, 300)],
    [(15, 15), (16, 16), (17, 17), (1, 1)],
    [(70, 70)],
    [(5, 64), (0, 33), (1, 65), (0, 0), (33, 129), (2, 2)],
    [(1, 63), (2, 1000), (1, SEGMENT), (2, SEGMENT + 1), (1, 2 * SEGMENT - 1)],
]


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


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (name, shape)
        for name in HOST_TARGETS
        for shape in (SHAPES if name == "native" else [SHAPES[i] for i in FEW])
    ],
    ids=str,
)
def test_matches_dense_attention(target: str, shape: tuple[int, int, int, str]) -> None:
    for seed, batch in enumerate(BATCHES):
        case = make_case(shape, batch, padding=seed % 3, seed=seed)
        assert_close(run(shape, case, target), case, shape[3], target, batch=str(batch))


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_peaked_scores_of_a_long_context(target: str) -> None:
    """Scores of hundreds: the running maximum rises for long, and most weights underflow."""
    shape = (8, 2, 64, "float32")
    case = make_case(shape, [(40, 1000)], spread=40.0)
    np.testing.assert_allclose(run(shape, case, target), reference(case), rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [SHAPES[i] for i in FEW], ids=str)
@pytest.mark.parametrize("target", HOST_TARGETS)
def test_batch_and_chunks_do_not_change_a_bit(
    shape: tuple[int, int, int, str], target: str
) -> None:
    batch = [(1, 40), (83, 83), (21, 100), (2, 17)]
    case = make_case(shape, batch)
    together = run(shape, case, target)
    for row, (count, _) in enumerate(batch):
        start = case.query_start[row]
        for chunk in (1, 7, 16, 83):
            for first in range(0, count, chunk):
                last = min(first + chunk, count)
                alone = run(shape, sub_batch(case, row, first, last), target)
                np.testing.assert_array_equal(alone, together[start + first : start + last])


def test_parallel_and_serial_agree_to_the_bit() -> None:
    """A large batch goes to the threads, its rows one by one do not."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    shape = (8, 2, 64, "float32")
    case = make_case(shape, [(1, 30 + row) for row in range(64)])
    together = run(shape, case)
    alone = [run(shape, sub_batch(case, row, 0, 1)) for row in range(64)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize(
    "shape", [(16, 1, 64, "bfloat16"), (2, 1, 32, "float32"), (16, 1, 64, "int8")], ids=str
)
def test_a_divided_context_does_not_change_a_bit(
    shape: tuple[int, int, int, str], target: str
) -> None:
    """Two long rows alone are divided among the threads; beside others they are not."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    long_rows = [(1, 3 * SEGMENT + 5), (3, 2 * SEGMENT)]
    case = make_case(shape, [*long_rows, *([(1, SEGMENT + 3)] * 20)])
    together = run(shape, case, target)
    alone = replace(
        case,
        query=case.query[:4],
        page_table=case.page_table[:2],
        query_start=case.query_start[:3],
        kv_lens=case.kv_lens[:2],
    )
    np.testing.assert_array_equal(run(shape, alone, target), together[:4])
    assert_close(together, case, shape[3], target)


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("shape", [(16, 1, 64, "bfloat16"), (4, 4, 32, "float16")], ids=str)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_later_positions_hold_does_not_reach_earlier_tokens(
    shape: tuple[int, int, int, str], target: str, poison: float
) -> None:
    """Odd positions, which share a word with the one before; tokens from there on show it."""
    case = make_case(shape, [(21, 40)])
    clean = run(shape, case, target)
    for position in (25, 38):
        broken = [cache.copy() for cache in (case.key_cache, case.value_cache)]
        page, offset = case.page_table[0, position // 16], position % 16
        broken[0][page, :, :, offset * 2 : offset * 2 + 2] = poison
        broken[1][page, :, offset // 2, offset % 2 :: 2] = poison
        got = run(shape, replace(case, key_cache=broken[0], value_cache=broken[1]), target)
        first = position - (40 - 21)
        np.testing.assert_array_equal(got[:first], clean[:first])
        assert not np.isfinite(got[first:]).any()


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_of_ten_thousand(target: str, dtype: str) -> None:
    """One position wins by far, and its value is the result."""
    shape = (4, 1, 32, dtype)
    case = make_case(shape, [(1, 700)])
    key = np.zeros((len(case.key_cache), 16, 1, 32), np.float32)
    key[case.page_table[0, 650 // 16], 650 % 16] = 1e4 / 32
    case = replace(
        case,
        query=np.ones_like(case.query),
        key_cache=key_cache_of(key.astype(DTYPES[dtype])),
    )
    want = reference(case)
    assert np.isfinite(want).all()
    np.testing.assert_array_equal(run(shape, case, target), want)


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("part", ["key_cache", "value_cache"])
def test_a_scale_of_nan_reaches_later_tokens_and_no_earlier_one(target: str, part: str) -> None:
    shape = (4, 1, 32, "int8")
    case = make_case(shape, [(21, 40)])
    clean = run(shape, case, target)
    broken = getattr(case, part).copy()
    scales = broken[case.page_table[0, 25 // 16], 0, -1].view(np.float32)
    scales[25 % 16] = np.nan
    got = run(shape, replace(case, **{part: broken}), target)
    first = 25 - (40 - 21)
    np.testing.assert_array_equal(got[:first], clean[:first])
    assert not np.isfinite(got[first:]).any()


@pytest.mark.parametrize(
    ("target", "head_dim"),
    [*((target, 32) for target in HOST_TARGETS), ("native", 256), ("native", 272)],
)
def test_codes_and_queries_at_the_ends_of_their_ranges(target: str, head_dim: int) -> None:
    """All products have one sign: no sum in int32 overflows; wider heads are computed in fp32."""
    shape = (4, 1, head_dim, "int8")
    case = make_case(shape, [(1, 300)])
    for sign in (-127, 127):
        key_cache, value_cache = case.key_cache.copy(), case.value_cache.copy()
        key_cache[:, :, :-1], value_cache[:, :, :-1] = sign, sign
        for cache in (key_cache, value_cache):
            cache[:, :, -1] = np.full((1, 1, 16), 1 / 127, np.float32).view(np.int8)
        # The transform of the first unit vector has no sign.
        query = np.zeros_like(case.query)
        query[..., 0] = 50
        ends = replace(case, query=query, key_cache=key_cache, value_cache=value_cache)
        np.testing.assert_allclose(run(shape, ends, target), np.sign(sign), rtol=1e-4)


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_queries_and_values_of_zeros(target: str) -> None:
    shape = (4, 1, 32, "int8")
    case = make_case(shape, [(3, 40)])
    mean = run(shape, replace(case, query=np.zeros_like(case.query)), target)
    assert_close(mean, replace(case, query=np.zeros_like(case.query)), "int8", target)
    nothing = case.value_cache.copy()
    nothing[:, :, -1] = 0
    assert not run(shape, replace(case, value_cache=nothing), target).any()


def test_fp16_caches_are_rounded_to_bf16_where_products_are_of_bf16() -> None:
    case = make_case((16, 1, 64, "float16"), [(1, 300), (20, 90)])
    if not isa_of(HOST_TARGETS["native"]).dots_bf16:
        pytest.skip("this machine has no dot products of bf16")
    got = run((16, 1, 64, "float16"), case)
    np.testing.assert_array_equal(got, run((16, 1, 64, "bfloat16"), in_bf16(case)))


def test_tokens_of_no_row_and_without_context_are_zero() -> None:
    shape = (4, 2, 48, "bfloat16")
    case = make_case(shape, [(3, 0), (2, 2)], padding=4)
    out = run(shape, case)
    assert not out[:3].any()
    assert out[3:5].all()
    assert not out[5:].any()


def test_no_token_of_any_row() -> None:
    shape = (4, 2, 48, "bfloat16")
    for padding in (0, 5):
        out = run(shape, make_case(shape, [(0, 20)], padding=padding))
        assert len(out) == padding
        assert not out.any()


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 40), (5, 2, 64)])
def test_refuses_shapes_it_has_no_tile_for(heads: int, kv_heads: int, head_dim: int) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 16"):
        gqa_attention_kernel(
            heads, kv_heads, head_dim, "float32", 1.0, isa_of(HOST_TARGETS["generic"])
        )
