from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.kv_cache import key_cache_shape, kv_append_kernel, value_cache_shape
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops import kv_append
from tvm_vacc.runtime.tensors import to_numpy, to_tvm


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("kv_heads", "head_dim"), [(3, 32), (1, 48), (2, 128)])
def test_matches_reference_to_the_bit(
    target: str, dtype: type, kv_heads: int, head_dim: int
) -> None:
    """One kernel at several sizes; ends of every dtype's range, ties and subnormals among them."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    rng = np.random.default_rng(head_dim)
    kernel = build_kernel(
        kv_append_kernel(kv_heads, head_dim, np.dtype(dtype).name), HOST_TARGETS[target]
    )
    special = [0.0, -0.0, np.inf, -np.inf, 65504, 65520, 1e-7, 6e-8, 1.00390625, 1.01171875, 3e38]
    for pages, tokens in ((1, 0), (1, 1), (3, 17), (40, 600)):
        caches = [
            rng.standard_normal(shape(pages, kv_heads, head_dim, np.dtype(dtype).name)).astype(
                dtype
            )
            for shape in (key_cache_shape, value_cache_shape)
        ]
        new = [
            rng.standard_normal((tokens, kv_heads, head_dim), dtype=np.float32) for _ in range(2)
        ]
        for array in new:
            array[..., : len(special)] = special
        slots = rng.permutation(pages * PAGE_SIZE)[:tokens].astype(np.int32)
        slots[1::5] = -1
        tensors = [to_tvm(cache) for cache in caches]
        kernel(*map(to_tvm, [*new, slots]), *tensors)
        with np.errstate(over="ignore"):
            want = kv_append.reference(*caches, *(array[None] for array in new), slots)
        for got, expected in zip(tensors, want, strict=True):
            np.testing.assert_array_equal(bits(to_numpy(got)), bits(expected))


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_not_a_number_stays_one(target: str, dtype: str) -> None:
    """Rounding a NaN's bits up must not make a number of it: a broken model stays visible."""
    kernel = build_kernel(kv_append_kernel(1, 16, dtype), HOST_TARGETS[target])
    quiet = np.full((1, 1, 16), np.nan, np.float32)
    highest = np.full((1, 1, 16), 0x7FFFFFFF, np.uint32).view(np.float32)
    numpy_dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    tensors = [
        to_tvm(np.zeros(shape(1, 1, 16, dtype), numpy_dtype))
        for shape in (key_cache_shape, value_cache_shape)
    ]
    kernel(to_tvm(quiet), to_tvm(highest), to_tvm(np.array([3], np.int32)), *tensors)
    key_cache, value_cache = map(to_numpy, tensors)
    assert np.isnan(key_cache[0, 0, :, 6:8]).all()  # offset 3: the fourth word of every line
    assert np.isnan(key_cache).sum() == 16
    assert np.isnan(value_cache[0, 0, 1, 1::2]).all()  # the high halves of the second line
    assert np.isnan(value_cache).sum() == 16
