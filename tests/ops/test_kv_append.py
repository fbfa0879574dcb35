from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from tvm import relax

from schedules.kv_cache import key_cache_shape, value_cache_shape
from tests.ops.harness import run_op
from tvm_vacc.ops import kv_append


def test_reference_by_hand() -> None:
    """Slot 35 is offset 3 of page 2."""
    caches = [
        np.zeros(shape(3, 1, 16, "float16"), np.float16)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    new = [np.arange(fill, fill + 32, dtype=np.float32).reshape(1, 2, 1, 16) for fill in (1, 101)]
    key_cache, value_cache = kv_append.reference(*caches, *new, np.array([-1, 35], np.int32))
    assert np.count_nonzero(key_cache) == np.count_nonzero(value_cache) == 16
    # Dimensions 2 i and 2 i + 1 of the key are word 3 of line i, the value high halves of line 1.
    np.testing.assert_array_equal(key_cache[2, 0, :, 6:8].reshape(-1), np.arange(17, 33))
    np.testing.assert_array_equal(value_cache[2, 0, 1, 1::2], np.arange(117, 133))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("leading", [(1, 6), (3, 2)])
def test_matches_reference(dtype: type, leading: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    caches = [
        rng.standard_normal(shape(4, 2, 32, np.dtype(dtype).name)).astype(dtype)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    new = [rng.standard_normal((*leading, 2, 32), dtype=np.float32) for _ in range(2)]
    slots = np.array([7, -1, 63, 16, 0, 33], np.int32)
    got = run_op(kv_append, [*caches, *new, slots])
    want = kv_append.reference(*caches, *new, slots)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one.astype(np.float32), other.astype(np.float32))


@pytest.mark.parametrize(
    ("value_dim", "cache_dim", "dtypes"),
    [
        (48, 32, ("float16", "float16")),
        (32, 48, ("float16", "float16")),
        (32, 32, ("int8", "int8")),
        (32, 32, ("float16", "bfloat16")),
    ],
)
def test_type_errors(value_dim: int, cache_dim: int, dtypes: tuple[str, str]) -> None:
    types = [
        relax.TensorType(key_cache_shape(3, 2, cache_dim, "float16"), dtypes[0]),
        relax.TensorType(value_cache_shape(3, 2, cache_dim, "float16"), dtypes[1]),
        relax.TensorType([1, 4, 2, 32], "float32"),
        relax.TensorType([1, 4, 2, value_dim], "float32"),
        relax.TensorType([4], "int32"),
    ]
    arguments = [relax.Var(f"arg{i}", ty) for i, ty in enumerate(types)]
    with pytest.raises(TypeError, match="kv_append"):
        relax.BlockBuilder().normalize(kv_append(*arguments))


def test_codes_match_reference() -> None:
    """Within one step: a tie may be broken by a product rounded before it is added."""
    rng = np.random.default_rng(0)
    caches = [
        rng.integers(-127, 128, shape(4, 2, 32, "int8"), np.int8)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    new = [rng.standard_normal((1, 6, 2, 32), dtype=np.float32) for _ in range(2)]
    slots = np.array([7, -1, 63, 16, 0, 33], np.int32)
    got = run_op(kv_append, [*caches, *new, slots])
    want = kv_append.reference(*caches, *new, slots)
    for one, other, before in zip(got, want, caches, strict=True):
        codes = np.abs(one[:, :, :-1].astype(int) - other[:, :, :-1])
        assert codes.max() <= 1
        assert np.count_nonzero(codes) <= 2
        np.testing.assert_array_equal(one[:, :, -1], other[:, :, -1])
        assert (other != before).any()
