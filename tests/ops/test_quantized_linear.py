from __future__ import annotations

import numpy as np
import pytest

from schedules.linear_int8 import pack_linear_int8
from tests.ops.harness import run_op
from tvm_vacc.ops import packed_quantized_linear, quantized_linear


def case(groups: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 17), dtype=np.float32)
    codes = rng.integers(-8, 8, (9, 17), dtype=np.int8)
    scales = rng.uniform(-1, 1, (9, groups)).astype(np.float32)
    return [x, codes, scales, rng.standard_normal(9, dtype=np.float32)]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("scheme", "group", "groups"), [("w8a16", 17, 1), ("w4a16", 8, 3)])
def test_matches_numpy(scheme: str, group: int, groups: int, with_bias: bool) -> None:
    x, codes, scales, bias = case(groups)
    weight = np.stack([codes[:, i] * scales[:, i // group].astype(float) for i in range(17)], 1)
    want = x @ weight.T + (bias if with_bias else 0)
    arguments = [x, codes, scales, bias][: 4 if with_bias else 3]
    attrs = {"scheme": scheme, "group_size": group}
    np.testing.assert_allclose(run_op(quantized_linear, arguments, **attrs), want, atol=1e-4)
    np.testing.assert_allclose(quantized_linear.reference(*arguments, **attrs), want, atol=1e-4)


def test_activations_of_eight_bits() -> None:
    x, codes, scales, bias = case(1)
    x[1, 2] = 0
    largest = np.abs(x).astype(float).max(axis=-1, keepdims=True)
    step = np.where(largest > 0, largest, 1) / 127
    want = np.rint(x / step) * step @ (codes * scales.astype(float)).T + bias
    attrs = {"scheme": "w8a8", "group_size": 17}
    arguments = [x, codes, scales, bias]
    np.testing.assert_allclose(run_op(quantized_linear, arguments, **attrs), want, atol=1e-4)
    np.testing.assert_allclose(quantized_linear.reference(*arguments, **attrs), want, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((9, 16), np.int8)}, "codes"),
        ({"weight": np.zeros((9, 17), np.uint8)}, "codes"),
        ({"scale": np.zeros((9, 2), np.float32)}, "scales"),
        ({"bias": np.zeros(8, np.float32)}, "bias"),
        ({"scheme": "w3a16"}, "no scheme w3a16"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    x, codes, scales, bias = case(1)
    arguments = {"x": x, "weight": codes, "scale": scales, "bias": bias, "scheme": "w8a16"}
    merged = {**arguments, **change}
    scheme = merged.pop("scheme")
    with pytest.raises(TypeError, match=message):
        run_op(quantized_linear, [*merged.values()], scheme=scheme, group_size=17)


@pytest.mark.parametrize("x_dtype", ["int8", "uint8"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_activations_that_are_codes(x_dtype: str, with_bias: bool) -> None:
    _, codes, scales, bias = case(1)
    rng = np.random.default_rng(1)
    info = np.iinfo(x_dtype)
    x = rng.integers(info.min, info.max + 1, (2, 3, 17)).astype(x_dtype)
    x_scale, zero_point = np.array([0.25], np.float32), np.array([11], np.int32)
    want = (x.astype(np.int64) - 11) @ codes.T.astype(np.int64) * 0.25 * scales[:, 0].astype(float)
    want = want + bias if with_bias else want
    attrs = {"scheme": "w8a8", "group_size": 17}
    arguments = [x, codes, scales, x_scale, zero_point, *([bias] if with_bias else [])]
    np.testing.assert_allclose(run_op(quantized_linear, arguments, **attrs), want, rtol=1e-5)
    np.testing.assert_allclose(quantized_linear.reference(*arguments, **attrs), want, rtol=1e-5)
    packed = [x, pack_linear_int8(codes), scales[:, 0].copy(), x_scale, zero_point]
    packed += [codes.sum(axis=1, dtype=np.int32), *arguments[5:]]
    attrs["out_features"] = 9
    np.testing.assert_allclose(run_op(packed_quantized_linear, packed, **attrs), want, rtol=1e-5)
    np.testing.assert_allclose(packed_quantized_linear.reference(*packed, **attrs), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("scheme", "x_scale", "message"),
    [("w8a16", np.ones(1, np.float32), "w8a16"), ("w8a8", np.ones(3, np.float32), "a scale and")],
)
def test_codes_with_other_schemes_or_scales_are_refused(
    scheme: str, x_scale: np.ndarray, message: str
) -> None:
    _, codes, scales, _ = case(1)
    arguments = [np.zeros((3, 17), np.int8), codes, scales, x_scale, np.zeros(1, np.int32)]
    with pytest.raises(TypeError, match=message):
        run_op(quantized_linear, arguments, scheme=scheme, group_size=17)
