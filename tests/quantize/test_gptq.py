"""GPTQ against a column-by-column reference, and at the edges of what a Hessian may be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.quantize.gptq_reference import gptq_reference, output_error
from tvm_vacc.quantize.gptq import NoFactorError, dequantized, gptq, relative_error
from tvm_vacc.quantize.round_to_nearest import round_to_nearest

SIZES = {
    "8 bits": (37, 200, 8, 200),
    "8 bits, one block": (5, 33, 8, 33),
    "4 bits in groups": (19, 320, 4, 64),
    "4 bits, small groups": (3, 96, 4, 32),
}


def case(
    out_features: int, in_features: int, tokens: int = 600, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight and inputs that depend on each other, some of them much larger."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((out_features, in_features), np.float32)
    mixing = rng.standard_normal((in_features, in_features), np.float32) / in_features**0.5
    inputs = rng.standard_normal((tokens, in_features), np.float32) @ (mixing + np.eye(in_features))
    return weight, (inputs * rng.uniform(0.1, 3, in_features)).astype(np.float32)


def quantise(
    weight: np.ndarray, hessian: np.ndarray, bits: int, group: int, *, act_order: bool = False
) -> tuple[np.ndarray, np.ndarray, float]:
    _, scales = round_to_nearest(weight, bits, group)
    arguments = (torch.from_numpy(array) for array in (weight, hessian, scales))
    codes, damping = gptq(*arguments, bits, group, act_order=act_order)
    return codes.numpy(), scales, damping


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_codes_are_those_of_the_reference(size: str, act_order: bool) -> None:
    out_features, in_features, bits, group = SIZES[size]
    weight, inputs = case(out_features, in_features)
    hessian = inputs.T @ inputs
    codes, scales, damping = quantise(weight, hessian, bits, group, act_order=act_order)
    wanted = gptq_reference(weight, hessian, scales, bits, group, act_order=act_order)
    assert codes.dtype == np.int8
    assert damping == 0.01
    # Where a value lies between two codes, fp32 may round it the other way, and so on.
    assert (codes == wanted).mean() > 0.995
    error, best = (output_error(weight, chosen, scales, inputs) for chosen in (codes, wanted))
    assert error == pytest.approx(best, rel=2e-3)
    nearest, _ = round_to_nearest(weight, bits, group)
    assert error < 0.9 * output_error(weight, nearest, scales, inputs)


def test_the_arguments_stay_as_they_are() -> None:
    weight, inputs = case(4, 40)
    hessian = inputs.T @ inputs
    kept = weight.copy(), hessian.copy()
    quantise(weight, hessian, 8, 40, act_order=True)
    assert (weight == kept[0]).all()
    assert (hessian == kept[1]).all()


def test_an_input_never_seen_is_rounded_to_nearest_and_moves_no_other() -> None:
    weight, inputs = case(9, 48)
    unseen = [0, 13, 47]
    inputs[:, unseen] = 0
    hessian = inputs.T @ inputs
    codes, scales, _ = quantise(weight, hessian, 8, 48)
    nearest, _ = round_to_nearest(weight, 8, 48)
    assert (codes[:, unseen] == nearest[:, unseen]).all()
    seen = np.setdiff1d(np.arange(48), unseen)
    wanted = gptq_reference(weight, hessian, scales, 8, 48)
    assert (codes[:, seen] == wanted[:, seen]).mean() > 0.99


def test_no_input_seen_at_all_is_round_to_nearest() -> None:
    weight, _ = case(9, 48)
    codes, _, _ = quantise(weight, np.zeros((48, 48), np.float32), 8, 48)
    assert (codes == round_to_nearest(weight, 8, 48)[0]).all()


def test_fewer_tokens_than_inputs() -> None:
    weight, inputs = case(9, 96, tokens=20)
    codes, scales, damping = quantise(weight, inputs.T @ inputs, 8, 96)
    assert damping == 0.01
    nearest, _ = round_to_nearest(weight, 8, 96)
    errors = [output_error(weight, chosen, scales, inputs) for chosen in (codes, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_damping_is_raised_until_there_is_a_factor() -> None:
    weight, inputs = case(9, 48)
    hessian = inputs.T @ inputs
    values, vectors = np.linalg.eigh(hessian.astype(np.float64))
    values[0] = -0.05 * np.diag(hessian).mean()
    broken = ((vectors * values) @ vectors.T).astype(np.float32)
    codes, scales, damping = quantise(weight, broken, 8, 48)
    assert damping == pytest.approx(0.1)
    wanted = gptq_reference(weight, broken, scales, 8, 48, damping=0.1)
    assert (codes == wanted).mean() > 0.99


def test_what_is_not_finite_has_no_factor() -> None:
    weight, inputs = case(9, 48)
    hessian = inputs.T @ inputs
    hessian[3, 4] = hessian[4, 3] = np.nan
    with pytest.raises(NoFactorError):
        quantise(weight, hessian, 8, 48)


@pytest.mark.parametrize("size", SIZES)
def test_the_relative_error_is_that_of_the_outputs(size: str) -> None:
    out_features, in_features, bits, group = SIZES[size]
    weight, inputs = case(out_features, in_features)
    codes, scales = round_to_nearest(weight, bits, group)
    arrays = (weight, codes, scales, inputs.T @ inputs)
    found = relative_error(*(torch.from_numpy(array) for array in arrays))
    assert found == pytest.approx(output_error(weight, codes, scales, inputs), rel=1e-3)


def test_codes_times_scales() -> None:
    codes = np.array([[1, -2, 3, 4], [0, 5, -6, 7]], np.int8)
    scales = np.array([[0.5, 2], [1, -1]], np.float32)
    made = dequantized(torch.from_numpy(codes), torch.from_numpy(scales))
    assert made.tolist() == [[0.5, -1, 6, 8], [0, 5, 6, -7]]
