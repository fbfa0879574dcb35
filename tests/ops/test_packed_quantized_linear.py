from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from schedules.linear_int4 import pack_linear_int4, packed_shapes
from schedules.linear_int8 import pack_linear_int8, packed_shape
from tests.ops.harness import compile_op, host_targets, target_name
from tvm_vacc.ops import packed_quantized_linear

SHAPES = {"w8a16": [(1, 1), (17, 15), (200, 65)], "w4a16": [(32, 1), (96, 15), (160, 65)]}
GROUP = 32


def make(
    scheme: str, in_features: int, out_features: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return packed codes and scales, a bias, and the weight in fp64 that they stand for."""
    rng = np.random.default_rng(in_features)
    bias = rng.standard_normal(out_features, dtype=np.float32)
    if scheme == "w4a16":
        codes = rng.integers(-8, 8, (out_features, in_features), dtype=np.int8)
        scales = rng.uniform(-1, 1, (out_features, in_features // GROUP)).astype(np.float16)
        weight = codes * np.repeat(scales.astype(np.float64), GROUP, axis=1)
        return *pack_linear_int4(codes, scales, GROUP), bias, weight
    codes = rng.integers(-127, 128, (out_features, in_features), dtype=np.int8)
    scale = rng.uniform(0.01, 1, out_features).astype(np.float32)
    return pack_linear_int8(codes), scale, bias, codes * scale[:, None].astype(np.float64)


def types_of(*arrays: np.ndarray) -> list[Any]:
    tokens = (("tokens", arrays[0].shape[-1]), "float32")
    return [tokens, *((array.shape, str(array.dtype)) for array in arrays[1:])]


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize(
    ("scheme", "in_features", "out_features"),
    [(scheme, *shape) for scheme, shapes in SHAPES.items() for shape in shapes],
)
def test_matches_the_dequantised_product(
    scheme: str, in_features: int, out_features: int, target: Any
) -> None:
    packed, scale, bias, weight = make(scheme, in_features, out_features)
    x = np.random.default_rng(1).standard_normal((19, in_features), dtype=np.float32)
    arrays = [x, packed, scale, bias]
    group_size = GROUP if scheme == "w4a16" else in_features
    attrs = {"scheme": scheme, "group_size": group_size, "out_features": out_features}
    function = compile_op(packed_quantized_linear, types_of(*arrays), target, **attrs)
    want = x.astype(np.float64) @ weight.T + bias
    size = np.abs(x).astype(np.float64) @ np.abs(weight).T + 1
    for tokens in (1, 2, 7, 19):
        got = function(x[:tokens], *arrays[1:])
        assert np.all(np.abs(got - want[:tokens]) <= 1e-4 * size[:tokens])
    # The reference of the operator says the same.
    np.testing.assert_allclose(
        packed_quantized_linear.reference(*arrays, **attrs), want, atol=1e-4 * size.max()
    )


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_activations_of_eight_bits_have_one_scale_a_token(target: Any) -> None:
    packed, scale, bias, weight = make("w8a16", 100, 65)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 100), dtype=np.float32) * rng.uniform(0.01, 100, (9, 1))
    x = x.astype(np.float32)
    x[4] = 0
    token_scale = np.abs(x).max(axis=1, keepdims=True).astype(np.float64) / 127
    codes = np.rint(np.divide(x, token_scale, out=np.zeros(x.shape), where=token_scale > 0))
    want = (codes * token_scale) @ weight.T + bias
    attrs = {"scheme": "w8a8", "group_size": 100, "out_features": 65}
    arrays = [x, packed, scale, bias]
    got = compile_op(packed_quantized_linear, types_of(*arrays), target, **attrs)(*arrays)
    # A value that lies between two codes may take either: one step of one input.
    step = token_scale * np.abs(weight).max() + 1e-5 * np.abs(want).max(axis=1, keepdims=True)
    assert np.all(np.abs(got - want) <= step)
    assert np.median(np.abs(got - want) / step) < 1e-2
    np.testing.assert_array_equal(got[4], bias)


def test_leading_dimensions_are_kept_and_a_bias_may_be_absent() -> None:
    packed, scale, _, weight = make("w8a16", 20, 64)
    types = [((2, "seq", 20), "float32"), (packed.shape, "uint8"), ((64,), "float32")]
    attrs = {"scheme": "w8a16", "group_size": 20, "out_features": 64}
    function = compile_op(packed_quantized_linear, types, "llvm", **attrs)
    x = np.random.default_rng(3).standard_normal((2, 3, 20), dtype=np.float32)
    got = function(x, packed, scale)
    assert got.shape == (2, 3, 64)
    np.testing.assert_allclose(got, x @ weight.T, atol=0.05, rtol=0)  # of values up to 800


@pytest.mark.parametrize(
    ("scheme", "weight", "scale", "bias", "message"),
    [
        ("w8a16", packed_shape(65, 36), (65,), 65, "do not fit"),
        ("w8a16", packed_shape(65, 32), (64,), 65, "do not fit"),
        ("w8a16", packed_shape(65, 32), (65,), 64, "bias"),
        ("w4a16", packed_shapes(65, 64, 32)[0], (2, 1, 64), 65, "do not fit"),
    ],
)
def test_refuses_arguments_that_do_not_fit(
    scheme: str, weight: tuple[int, ...], scale: tuple[int, ...], bias: int, message: str
) -> None:
    types = [
        ((4, 32), "float32"),
        (weight, "uint8"),
        (scale, "float16" if scheme == "w4a16" else "float32"),
        ((bias,), "float32"),
    ]
    attrs = {"scheme": scheme, "group_size": 32, "out_features": 65}
    with pytest.raises(Exception, match=message):
        compile_op(packed_quantized_linear, types, "llvm", **attrs)


def test_a_bias_may_be_of_sixteen_bits() -> None:
    packed, scale, bias, weight = make("w8a16", 20, 64)
    arrays = [np.ones((2, 20), np.float32), packed, scale, bias.astype(ml_dtypes.bfloat16)]
    attrs = {"scheme": "w8a16", "group_size": 20, "out_features": 64}
    got = compile_op(packed_quantized_linear, types_of(*arrays), "llvm", **attrs)(*arrays)
    want = weight.sum(axis=1) + arrays[3].astype(np.float32)
    np.testing.assert_allclose(got, np.stack([want, want]), atol=1e-2)
