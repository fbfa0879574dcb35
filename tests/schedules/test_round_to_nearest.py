"""The kernel gives the bits of the NumPy reference, on every target that this machine runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import ml_dtypes
import numpy as np
import pytest
import tvm_ffi

from schedules.isa import isa_of
from schedules.round_to_nearest import round_to_nearest_kernel
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.quantize.round_to_nearest import round_to_nearest

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "uint16": np.dtype(ml_dtypes.bfloat16),
}
LENGTHS = (1, 15, 16, 17, 32, 130)
SIGNS = {"both signs": (-1, 1), "positive": (0, 1), "negative": (-1, 0)}


@cache
def kernel(dtype: str, bits: int, target: str) -> Callable[..., None]:
    target_ = HOST_TARGETS[target]
    return build_kernel(round_to_nearest_kernel(dtype, bits, isa_of(target_)), target_)


def run(values: np.ndarray, bits: int, target: str) -> tuple[np.ndarray, np.ndarray]:
    codes, scale = np.empty(values.shape, np.int8), np.empty(len(values), np.float32)
    given = values.view(np.uint16) if values.dtype == ml_dtypes.bfloat16 else values
    arrays = (tvm_ffi.from_dlpack(array) for array in (given, codes, scale))
    kernel(given.dtype.name, bits, target)(*arrays)
    return codes, scale[:, None]


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signs", SIGNS)
def test_the_bits_of_the_reference(signs: str, dtype: str, bits: int, target: str) -> None:
    rng = np.random.default_rng(bits)
    low, high = SIGNS[signs]
    for length in LENGTHS:
        values = rng.uniform(low, high, (9, length)) * 10.0 ** rng.integers(-4, 3, (9, 1))
        # Halves of steps, zeros of both signs, and what is next to nothing.
        values[1] = np.rint(values[1] / np.abs(values[1]).max() * 254) / 254
        values[2], values[3], values[4] = 0.0, -0.0, values[4] * 1e-8
        values = values.astype(DTYPES[dtype])
        codes, scale = run(values, bits, target)
        wanted_codes, wanted_scale = round_to_nearest(values, bits, length)
        np.testing.assert_array_equal(scale.view(np.uint32), wanted_scale.view(np.uint32))
        np.testing.assert_array_equal(codes, wanted_codes)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_finite_scale(value: float, dtype: str, bits: int) -> None:
    values = np.ones((3, 40), DTYPES[dtype])
    values[1, 37] = value
    _, scale = run(values, bits, "native")
    assert np.isfinite(scale[:, 0]).tolist() == [True, False, True]


def test_what_fp16_cannot_hold_has_no_finite_scale() -> None:
    _, scale = run(np.full((1, 32), 6e5, np.float32), 4, "native")
    assert not np.isfinite(scale).any()


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(ValueError, match="not float64"):
        round_to_nearest_kernel("float64", 8, isa_of(HOST_TARGETS["native"]))
