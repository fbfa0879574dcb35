"""The attention kernel with numbers that are hard: peaks, infinities, NaN, the ends of ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schedules.isa import isa_of
from tests.schedules.attention_calls import (
    DTYPES,
    assert_close,
    in_bf16,
    make_case,
    reference,
    run,
)
from tests.schedules.kernel_harness import HOST_TARGETS
from tests.schedules.paged_caches import key_cache_of


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_peaked_scores_of_a_long_context(target: str) -> None:
    """Scores of hundreds: the running maximum rises for long, and most weights underflow."""
    shape = (8, 2, 64, "float32")
    case = make_case(shape, [(40, 1000)], spread=40.0)
    np.testing.assert_allclose(run(shape, case, target), reference(case), rtol=0, atol=2e-4)


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
