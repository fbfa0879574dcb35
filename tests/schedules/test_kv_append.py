from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.kv_append import kv_append_kernel
from schedules.kv_cache import key_cache_shape, value_cache_shape
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tests.schedules.paged_caches import hadamard_matrix
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


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize(("kv_heads", "head_dim"), [(3, 32), (1, 48), (2, 128)])
def test_codes_are_the_nearest_and_scales_those_of_their_rows(
    target: str, kv_heads: int, head_dim: int
) -> None:
    """The layout is read as its documentation says; no code is further off than half a step."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    rng = np.random.default_rng(head_dim)
    kernel = build_kernel(kv_append_kernel(kv_heads, head_dim, "int8"), HOST_TARGETS[target])
    for pages, tokens in ((1, 0), (1, 1), (3, 17), (40, 600)):
        caches = [np.full((pages, kv_heads, head_dim // 4 + 1, 64), 99, np.int8) for _ in range(2)]
        magnitudes = 10.0 ** rng.uniform(-6, 6, (tokens, kv_heads, 1))
        new = [
            (rng.standard_normal((tokens, kv_heads, head_dim)) * magnitudes).astype(np.float32)
            for _ in range(2)
        ]
        slots = rng.permutation(pages * PAGE_SIZE)[:tokens].astype(np.int32)
        slots[1::5] = -1
        tensors = [to_tvm(cache) for cache in caches]
        kernel(*map(to_tvm, [*new, slots]), *tensors)
        rows = [new[0].astype(np.float64) @ hadamard_matrix(head_dim), new[1].astype(np.float64)]
        for cache, row, keys in zip(map(to_numpy, tensors), rows, (True, False), strict=True):
            untouched = np.ones(cache.shape, bool)
            for token in range(tokens):
                if slots[token] < 0:
                    continue
                page, t = divmod(int(slots[token]), PAGE_SIZE)
                d = np.arange(head_dim)
                line = d // 4 if keys else t // 4 * (head_dim // 16) + d // 16
                byte = t * 4 + d % 4 if keys else d % 16 * 4 + t % 4
                scale_bytes = np.ascontiguousarray(cache[page, :, -1, 4 * t : 4 * t + 4])
                scale = scale_bytes.view(np.float32)
                largest = np.abs(row[token]).max(axis=-1, keepdims=True)
                np.testing.assert_allclose(scale, largest / 127, rtol=1e-6)
                error = np.abs(cache[page][:, line, byte] * scale - row[token])
                assert (error <= 0.5001 * scale).all()
                untouched[page, :, line, byte] = False
                untouched[page, :, -1, 4 * t : 4 * t + 4] = False
            assert (cache[untouched] == 99).all()


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_of_codes_that_is_no_number_has_the_scale_nan(target: str, bad: float) -> None:
    kernel = build_kernel(kv_append_kernel(2, 16, "int8"), HOST_TARGETS[target])
    key = np.ones((1, 2, 16), np.float32)
    value = key.copy()
    key[0, 0, 5], value[0, 1, 7] = bad, bad
    tensors = [to_tvm(np.zeros((1, 2, 5, 64), np.int8)) for _ in range(2)]
    kernel(to_tvm(key), to_tvm(value), to_tvm(np.array([3], np.int32)), *tensors)
    scales = [
        np.ascontiguousarray(to_numpy(tensor)[0, :, -1]).view(np.float32) for tensor in tensors
    ]
    np.testing.assert_array_equal(np.isnan(scales[0][:, 3]), [True, False])
    np.testing.assert_array_equal(np.isnan(scales[1][:, 3]), [False, True])
    assert not np.isnan(np.delete(np.stack(scales), 3, axis=-1)).any()


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_a_row_of_zeros_has_codes_of_zero(target: str) -> None:
    kernel = build_kernel(kv_append_kernel(1, 16, "int8"), HOST_TARGETS[target])
    nothing = to_tvm(np.zeros((1, 1, 16), np.float32))
    tensors = [to_tvm(np.full((1, 1, 5, 64), 99, np.int8)) for _ in range(2)]
    kernel(nothing, nothing, to_tvm(np.array([0], np.int32)), *tensors)
    for tensor in tensors:
        assert (to_numpy(tensor) == 0).sum() == 16 + 4
