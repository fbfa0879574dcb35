"""The attention kernel against dense fp64 attention: shapes, batches, masks, independence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.gqa_attention import gqa_attention_kernel
from schedules.isa import isa_of
from schedules.kv_cache import key_cache_shape, value_cache_shape
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops import gqa_attention
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}

SHAPES = [
    # heads, kv_heads, head_dim, cache dtype: every group size, head_dim and dtype, and odd ones.
    (3, 3, 32, "float16"),
    (4, 2, 48, "bfloat16"),
    (8, 2, 64, "float32"),
    (32, 2, 128, "float16"),
    (16, 1, 48, "bfloat16"),
    (7, 1, 80, "float32"),
    (24, 1, 16, "float16"),
]

BATCHES = [
    # (new tokens, context with them) of every row
    [(1, 1)],
    [(1, 15), (1, 16), (1, 17), (1, 1), (1, 300)],
    [(15, 15), (16, 16), (17, 17), (1, 1)],
    [(70, 70)],
    [(5, 64), (0, 33), (1, 65), (0, 0), (33, 129), (2, 2)],
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
    key_cache = np.full(key_cache_shape(pages, kv_heads, head_dim), np.nan, np.float32)
    value_cache = np.full(value_cache_shape(pages, kv_heads, head_dim), np.nan, np.float32)
    for row, (_, context) in enumerate(batch):
        for position in range(context):
            page, offset = page_table[row, position // PAGE_SIZE], position % PAGE_SIZE
            key_cache[page, :, :, offset] = rng.standard_normal((kv_heads, head_dim)) * spread
            value_cache[page, :, offset] = rng.standard_normal((kv_heads, head_dim))
        page_table[row, -(-context // PAGE_SIZE) :] = -1  # entries behind the context are not read
    counts = [count for count, _ in batch]
    query = rng.standard_normal((sum(counts) + padding, heads, head_dim), dtype=np.float32)
    return Case(
        query=query,
        key_cache=key_cache.astype(DTYPES[dtype]),
        value_cache=value_cache.astype(DTYPES[dtype]),
        page_table=page_table.astype(np.int32),
        query_start=np.cumsum([0, *counts]).astype(np.int32),
        kv_lens=np.array([context for _, context in batch], np.int32),
    )


@functools.cache
def compiled(shape: tuple[int, int, int, str], target: str) -> Callable[..., None]:
    heads, kv_heads, head_dim, dtype = shape
    isa = isa_of(HOST_TARGETS[target])
    kernel = gqa_attention_kernel(heads, kv_heads, head_dim, dtype, head_dim**-0.5, isa)
    return build_kernel(kernel, HOST_TARGETS[target])


def run(shape: tuple[int, int, int, str], case: Case, target: str = "native") -> np.ndarray:
    out = to_tvm(np.full_like(case.query, np.nan))
    compiled(shape, target)(*map(to_tvm, case.arrays), out)
    return to_numpy(out)


def reference(case: Case) -> np.ndarray:
    return gqa_attention.reference(
        case.query[None], *case.arrays[1:], scale=case.query.shape[-1] ** -0.5
    )[0]


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
    [(name, shape) for name in HOST_TARGETS for shape in SHAPES[: 7 if name == "native" else 4]],
    ids=str,
)
def test_matches_dense_attention(target: str, shape: tuple[int, int, int, str]) -> None:
    for seed, batch in enumerate(BATCHES):
        case = make_case(shape, batch, padding=seed % 3, seed=seed)
        np.testing.assert_allclose(
            run(shape, case, target), reference(case), rtol=0, atol=3e-6, err_msg=str(batch)
        )


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_peaked_scores_of_a_long_context(target: str) -> None:
    """Scores of hundreds: the running maximum rises for long, and most weights underflow."""
    shape = (8, 2, 64, "float32")
    case = make_case(shape, [(40, 1000)], spread=40.0)
    np.testing.assert_allclose(run(shape, case, target), reference(case), rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
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
