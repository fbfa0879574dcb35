from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.quantize_activations import LEVELS, quantize_activations
from tests.schedules.kernel_harness import build_kernel
from tests.schedules.quantized_kernels import TARGETS


def quantizer(in_features: int, planes: int, group: int) -> tvm.tirx.PrimFunc:
    """Kernel that copies the scratch out: bytes ``[tokens * planes, in]``, scales and sums."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_attr({"tirx.noalias": True})
        handles = [T.arg(name, T.handle()) for name in ("x", "bytes", "scales", "sums")]
        tokens, rows = T.int64(), T.int64()
        padded, groups = -(-in_features // 4) * 4, in_features // group
        x = T.match_buffer(handles[0], (tokens, in_features), "float32")
        codes = T.match_buffer(handles[1], (rows, padded), "int8")
        scales = T.match_buffer(handles[2], (tokens,), "float32")
        sums = T.match_buffer(handles[3], (rows, groups), "int32")
        result = quantize_activations(x, tokens, planes=planes, group=group)
        with T.serial(0, rows) as row:
            with T.serial(0, padded) as k:
                T.buffer_store(codes, result.rows[row, k], [row, k])
            with T.serial(0, groups) as g:
                T.buffer_store(sums, result.sums[row, g], [row, g])
        with T.serial(0, tokens) as token:
            T.buffer_store(scales, result.scales[token], [token])
    return builder.get()


def quantize(
    x: np.ndarray, planes: int, group: int, target: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes ``[tokens, in]``, scales ``[tokens]`` and sums ``[tokens, groups]``."""
    tokens, in_features = x.shape
    padded = -(-in_features // 4) * 4
    codes = tvm.runtime.tensor(np.full((tokens * planes, padded), 99, np.int8))
    scales = tvm.runtime.empty((tokens,), "float32")
    sums = tvm.runtime.empty((tokens * planes, in_features // group), "int32")
    build_kernel(quantizer(in_features, planes, group), TARGETS[target])(
        tvm.runtime.tensor(x), codes, scales, sums
    )
    weights = np.array([1] if planes == 1 else [256, 1])
    stored = codes.numpy().reshape(tokens, planes, padded).astype(np.int64)
    assert not stored[:, :, in_features:].any()
    whole = (stored * weights[:, None]).sum(axis=1)[:, :in_features]
    total = sums.numpy().reshape(tokens, planes, -1).astype(np.int64) * weights[:, None]
    return whole, scales.numpy(), total.sum(axis=1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize(("in_features", "group"), [(1, 1), (37, 37), (96, 32), (256, 64)])
def test_codes_are_the_nearest(in_features: int, group: int, planes: int, target: str) -> None:
    rng = np.random.default_rng(in_features)
    x = (rng.standard_normal((5, in_features)) * 10.0 ** np.arange(-8, 2, 2)[:, None]).astype("f4")
    codes, scales, sums = quantize(x, planes, group, target)
    amax = np.abs(x).max(axis=1)
    np.testing.assert_allclose(scales, amax / LEVELS[planes], rtol=1e-6)
    assert np.all(np.abs(codes).max(axis=1) == LEVELS[planes])
    exact = x.astype(np.float64) * LEVELS[planes] / amax[:, None]
    assert np.abs(codes - exact).max() <= 0.5 + LEVELS[planes] * 2.0**-22
    np.testing.assert_array_equal(sums, codes.reshape(5, -1, group).sum(axis=2))


def test_halves_go_to_even() -> None:
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]], np.float32)
    codes, scales, _ = quantize(x, 1, 8, "native")
    assert scales[0] == 1
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2, -2, 126]]


@pytest.mark.parametrize("target", TARGETS)
def test_tokens_without_a_scale(target: str) -> None:
    """Zeros, too small, infinite, NaN: the tokens beside them are as they are alone."""
    x = np.random.default_rng(0).standard_normal((6, 33)).astype(np.float32)
    x[0], x[1] = 0, 1e-31
    x[2, 3], x[3, 4], x[4, 32] = np.inf, -np.nan, -np.inf
    codes, scales, sums = quantize(x, 2, 33, target)
    assert not codes[:2].any()
    assert not sums[:2].any()
    assert scales[0] == 0
    assert np.isfinite(scales[1])
    assert np.isnan(scales[2:5]).all()
    alone = quantize(x[5:], 2, 33, target)
    for together, single in zip((codes, scales, sums), alone, strict=True):
        np.testing.assert_array_equal(together[5:], single)
