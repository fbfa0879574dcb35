"""Against torch, at odd sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tvm_vacc.passport.divergence import (
    cosines,
    kl_divergence,
    log_softmax,
    relative_error,
    top_kl_divergence,
)

RNG = np.random.default_rng(3)


def logits(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 4).astype(np.float32)


def test_log_softmax_is_torchs() -> None:
    x = logits(5, 301)
    want = torch.log_softmax(torch.from_numpy(x).double(), -1).numpy()
    np.testing.assert_allclose(log_softmax(x), want, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(x + np.float32(3e4)), want, atol=0.02)  # no overflow


def test_kl_divergence_is_torchs() -> None:
    p, q = log_softmax(logits(7, 301)), log_softmax(logits(7, 301))
    want = torch.nn.functional.kl_div(
        torch.from_numpy(q), torch.from_numpy(p), reduction="none", log_target=True
    ).sum(-1)
    np.testing.assert_allclose(kl_divergence(p, q), want.numpy(), rtol=1e-12)
    assert not kl_divergence(p, p).any()


def test_the_divergence_over_some_tokens_is_a_lower_bound() -> None:
    p, q = log_softmax(logits(9, 301)), log_softmax(logits(9, 301))
    top = np.argsort(-p, -1)
    take = np.take_along_axis
    exact = kl_divergence(p, q)
    bounds = [
        top_kl_divergence(take(p, top[:, :k], -1), take(q, top[:, :k], -1)) for k in (1, 8, 64)
    ]
    for coarse, fine in zip([np.zeros(9), *bounds], [*bounds, exact], strict=True):
        assert (coarse <= fine + 1e-12).all()
    # With all tokens there is no rest, and the bound is reached.
    np.testing.assert_allclose(top_kl_divergence(p, q), exact, rtol=1e-9)


def test_one_token_and_the_rest_by_hand() -> None:
    p, q = np.log([[0.75]]), np.log([[0.5]])
    want = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert top_kl_divergence(p, q)[0] == pytest.approx(want)


def test_cosine_and_relative_error() -> None:
    a, b = logits(6, 37), logits(6, 37)
    want = torch.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(cosines(a, b), want, rtol=1e-5)
    assert relative_error(a, a * 1.5) == pytest.approx(0.5)
    zero = np.zeros((2, 3), np.float32)
    assert cosines(zero, zero).tolist() == [1.0, 1.0]
    assert cosines(zero, zero + 1).tolist() == [0.0, 0.0]
    assert relative_error(zero, zero) == 0.0
    assert relative_error(zero, zero + 1) == math.inf
