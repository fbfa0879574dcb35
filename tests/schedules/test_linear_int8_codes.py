from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_int8 import pack_linear_int8
from schedules.linear_int8_codes import CODES, linear_int8_codes_kernel
from tests.schedules.kernel_harness import build_kernel
from tests.schedules.quantized_kernels import TARGETS, Kernel

SCALE = np.array([0.01], np.float32)


@cache
def kernel(in_features: int, out_features: int, target: str, x_dtype: str, bias: bool) -> Kernel:
    function = linear_int8_codes_kernel(
        in_features,
        out_features,
        isa_of(TARGETS[target]),
        x_dtype=x_dtype,
        bias_dtype="float32" if bias else None,
    )
    built = build_kernel(function, TARGETS[target])

    def call(*arrays: np.ndarray) -> np.ndarray:
        out = tvm.runtime.empty((len(arrays[0]), out_features), "float32")
        built(*map(tvm.runtime.tensor, arrays), out)
        return out.numpy()

    return call


def codes_of(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("x_dtype", CODES)
@pytest.mark.parametrize(("in_features", "out_features"), [(35, 31), (6000, 97)])
def test_equals_integer_arithmetic(
    in_features: int, out_features: int, x_dtype: str, target: str
) -> None:
    rng = np.random.default_rng(in_features)
    weight = codes_of(rng, "int8", out_features, in_features)
    x = codes_of(rng, x_dtype, 27, in_features)
    scale, bias = rng.uniform(-1, 1, (2, out_features)).astype(np.float32)
    sums = weight.sum(axis=1, dtype=np.int32)
    for zero in (np.iinfo(x_dtype).min, 17, np.iinfo(x_dtype).max):
        exact = (x.astype(np.int64) - zero) @ weight.T.astype(np.int64)
        want = exact * scale.astype(np.float64) * SCALE[0] + bias
        run = kernel(in_features, out_features, target, x_dtype, True)
        for tokens in (1, 2, 5, 12, 13, 27):
            zero_point = np.array([zero], np.int32)
            got = run(x[:tokens], pack_linear_int8(weight), scale, SCALE, zero_point, sums, bias)
            assert np.abs(got - want[:tokens]).max() <= 3e-7 * np.abs(want).max()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("x_dtype", CODES)
def test_extremes_do_not_saturate(x_dtype: str, target: str) -> None:
    """The longest sums of all, at both ends of both ranges."""
    in_features, info = 1 << 16, np.iinfo(x_dtype)
    weight = np.stack([np.full(in_features, -128), np.full(in_features, 127)]).astype(np.int8)
    x = np.stack([np.full(in_features, info.min), np.full(in_features, info.max)]).astype(x_dtype)
    sums = weight.sum(axis=1, dtype=np.int32)
    ones = np.ones(2, np.float32)
    for zero in (info.min, info.max):
        exact = (x.astype(np.int64) - zero) @ weight.T.astype(np.int64)
        got = kernel(in_features, 2, target, x_dtype, False)(
            x, pack_linear_int8(weight), ones, ones[:1], np.array([zero], np.int32), sums
        )
        np.testing.assert_allclose(got, exact, rtol=2.0**-22)


def test_what_no_kernel_can_do_is_refused() -> None:
    isa = isa_of(TARGETS["generic"])
    with pytest.raises(ValueError, match="int16"):
        linear_int8_codes_kernel(4, 4, isa, x_dtype="int16", bias_dtype=None)
    with pytest.raises(ValueError, match="65537"):
        linear_int8_codes_kernel(65537, 4, isa, x_dtype="int8", bias_dtype=None)
