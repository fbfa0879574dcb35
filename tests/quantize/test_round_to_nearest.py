from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tvm_vacc.quantize import round_to_nearest as module
from tvm_vacc.quantize.round_to_nearest import UnquantizableError, round_to_nearest

SHAPES = [(1, 1), (3, 17), (70, 64), (5, 130)]


def random_weight(shape: tuple[int, int], dtype: object = np.float32) -> np.ndarray:
    return np.random.default_rng(shape[1]).standard_normal(shape).astype(dtype)


def spread(scales: np.ndarray, group: int, inputs: int) -> np.ndarray:
    return np.repeat(scales, group, axis=1)[:, :inputs].astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_eight_bits_are_the_nearest_of_255_values(shape: tuple[int, int], dtype: object) -> None:
    weight = random_weight(shape, dtype)
    codes, scales = round_to_nearest(weight, 8, shape[1])
    assert (codes.dtype, scales.dtype, scales.shape) == (np.int8, np.float32, (shape[0], 1))
    exact = weight.astype(np.float64)
    np.testing.assert_allclose(scales[:, 0], np.abs(exact).max(axis=1) / 127, rtol=1e-6)
    assert np.abs(codes.astype(int)).max(axis=1).tolist() == [127] * shape[0]
    assert np.all(np.abs(codes * scales.astype(np.float64) - exact) <= scales / 2 * (1 + 1e-5))


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("shape", SHAPES)
def test_four_bits_use_all_codes_of_a_group(shape: tuple[int, int], group: int) -> None:
    weight = random_weight(shape)
    codes, scales = round_to_nearest(weight, 4, group)
    groups = -(-shape[1] // group)
    assert scales.shape == (shape[0], groups)
    np.testing.assert_array_equal(scales, scales.astype(np.float16))
    for first in range(0, shape[1], group):
        part, code = weight[:, first : first + group], codes[:, first : first + group]
        at = np.abs(part).argmax(axis=1)
        assert (np.take_along_axis(code, at[:, None], 1) == -8).all()
        assert code.max() <= 7
    scale = spread(scales, group, shape[1])
    wanted = weight / scale
    # Half a step, but for what lies beyond code 7.
    assert np.all(np.abs(codes - np.minimum(wanted, 7)) <= 0.5 + 1e-5)


def test_four_bits_are_better_than_scales_without_a_sign() -> None:
    weight = random_weight((64, 512))
    codes, scales = round_to_nearest(weight, 4, 64)
    error = np.square(codes * spread(scales, 64, 512) - weight).mean()
    largest = np.abs(weight.reshape(64, -1, 64)).max(axis=2) / 7
    plain = spread(largest, 64, 512)
    plain_error = np.square(np.clip(np.rint(weight / plain), -8, 7) * plain - weight).mean()
    assert error < 0.85 * plain_error


def test_zeros_and_the_smallest_numbers() -> None:
    weight = np.zeros((4, 40), np.float32)
    weight[1, 3] = 1e-40
    weight[2, 5] = 3e-38
    for bits in (4, 8):
        codes, scales = round_to_nearest(weight, bits, 40)
        assert (codes[0] == 0).all()
        assert np.isfinite(scales).all()
        assert (scales != 0).all()
        np.testing.assert_allclose(codes * scales, weight, atol=1e-37 if bits == 8 else 1e-7)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_view_and_blocks_of_rows_change_nothing(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = random_weight((50, 96))
    whole = round_to_nearest(weight, bits, 96 if bits == 8 else 32)
    transposed = np.ascontiguousarray(weight.T).T
    monkeypatch.setattr(module, "BLOCK_VALUES", 7 * 96)
    for other in (weight, transposed):
        blocks = round_to_nearest(other, bits, 96 if bits == 8 else 32)
        np.testing.assert_array_equal(blocks[0], whole[0])
        np.testing.assert_array_equal(blocks[1], whole[1])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "a NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")]
)
def test_what_is_not_finite_is_refused(bits: int, value: float, message: str) -> None:
    weight = random_weight((9, 64))
    weight[7, 33] = value
    with pytest.raises(UnquantizableError, match=message):
        round_to_nearest(weight, bits, 64)


def test_what_scales_of_sixteen_bits_cannot_hold_is_refused() -> None:
    weight = np.full((2, 32), 6e5, np.float32)
    with pytest.raises(UnquantizableError, match="a value of 600000"):
        round_to_nearest(weight, 4, 32)
    codes, scales = round_to_nearest(weight, 8, 32)
    np.testing.assert_allclose(codes * scales, weight, rtol=1e-6)


def test_what_is_next_to_nothing_stays_within_four_bits() -> None:
    codes, _ = round_to_nearest(np.full((1, 32), 11 * 2.0**-24, np.float32), 4, 32)
    assert (codes == -8).all()
