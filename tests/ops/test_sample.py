from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.ops.harness import compile_op, host_targets, target_name
from tvm_vacc.ops import sample

SETTINGS = [(("rows",), "float32"), (("rows",), "float32"), (("rows",), "int32")]


def compiled(vocab: int, target: Any = "llvm") -> Callable[..., np.ndarray]:
    types = [(("rows", vocab), "float32"), *SETTINGS, (("rows",), "float32")]
    return compile_op(sample, types, target)


def settings(
    rows: int, temperature: Any = 1.0, top_p: Any = 1.0, top_k: Any = 0, uniform: Any = 0.5
) -> list[np.ndarray]:
    """Return the arguments after the logits, scalars repeated for every row."""
    values = (temperature, top_p, top_k, uniform)
    dtypes = (np.float32, np.float32, np.int32, np.float32)
    return [
        np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype), (rows,)))
        for value, dtype in zip(values, dtypes, strict=True)
    ]


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("vocab", [1, 15, 16, 17, 100, 4095, 20000])
def test_matches_sorting_reference(vocab: int, target: Any) -> None:
    rng = np.random.default_rng(vocab)
    rows = 200
    logits = rng.standard_normal((rows, vocab), dtype=np.float32) * 3
    arguments = settings(
        rows,
        temperature=rng.choice([0, 0.1, 0.7, 1, 2], rows),
        top_p=rng.choice([0, 0.1, 0.5, 0.9, 1], rows),
        top_k=rng.choice([0, 1, 2, 50, vocab, vocab + 3], rows),
        uniform=rng.random(rows),
    )
    got = compiled(vocab, target)(logits, *arguments)
    np.testing.assert_array_equal(got, sample.reference(logits, *arguments))


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_greedy_takes_the_lowest_index_of_a_tie(target: Any) -> None:
    function = compiled(37, target)
    for first in range(37):
        logits = np.zeros((1, 37), np.float32)
        logits[0, first:] = 5
        assert function(logits, *settings(1, temperature=0))[0] == first
    assert function(np.full((1, 37), -np.inf, np.float32), *settings(1, temperature=0))[0] == 0


def test_draws_follow_the_distribution() -> None:
    """Pearson's chi-square of 20000 draws; 9 degrees of freedom exceed 35 once in 20000 times."""
    rng = np.random.default_rng(7)
    draws, vocab, temperature = 20000, 100, 0.8
    logits = rng.standard_normal(vocab).astype(np.float32) * 2
    arguments = settings(draws, temperature, 0.95, 10, uniform=rng.random(draws))
    tokens = compiled(vocab)(np.tile(logits, (draws, 1)), *arguments)

    kept = np.argsort(-logits)[:10]
    probabilities = np.exp(logits[kept].astype(np.float64) / temperature)
    probabilities /= probabilities.sum()
    size = int(np.searchsorted(np.cumsum(probabilities), 0.95)) + 1
    kept, probabilities = kept[:size], probabilities[:size] / probabilities[:size].sum()
    assert size < 10  # top-p takes some away, so both limits are at work
    counts = np.bincount(tokens, minlength=vocab)
    assert counts.sum() == counts[kept].sum()
    expected = draws * probabilities
    assert np.sum((counts[kept] - expected) ** 2 / expected) < 35


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_every_share_of_the_mass_finds_its_token(target: Any) -> None:
    """Equal logits: token i takes the i-th part of [0, 1); the ends must not fall off."""
    vocab = 2500  # three blocks of the cumulative sum on AVX-512, the last one short
    uniform = np.array([(i + 0.5) / vocab for i in range(0, vocab, 50)] + [0, 1 - 2.0**-24])
    logits = np.zeros((len(uniform), vocab), np.float32)
    got = compiled(vocab, target)(logits, *settings(len(uniform), uniform=uniform))
    np.testing.assert_array_equal(got, [*range(0, vocab, 50), 0, vocab - 1])


def test_tokens_as_probable_as_the_last_one_are_kept() -> None:
    logits = np.array([[3, 1, 2, 2, 0, 2]], np.float32)
    function = compiled(6)
    uniform = (np.arange(1000) + 0.5) / 1000
    repeated = np.repeat(logits, 1000, 0)
    for limits in ({"top_k": 2}, {"top_p": 0.7}):
        got = function(repeated, *settings(1000, uniform=uniform, **limits))
        assert set(got) == {0, 2, 3, 5}


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e-30])
def test_strange_logits(temperature: float, target: Any) -> None:
    function = compiled(50, target)
    logits = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    logits[0] = np.nan
    logits[1, :-1] = np.nan  # one number only
    logits[2] = -np.inf
    logits[2, 7] = -1e30  # one finite logit
    logits[3, 9] = np.inf
    logits[4, ::2] = np.nan
    logits[5] = -np.inf
    for limits in ({}, {"top_k": 3}, {"top_p": 0.5}, {"top_k": 60, "top_p": 0.0}):
        got = function(logits, *settings(6, temperature, uniform=0.99, **limits))
        assert list(got[:4]) == [0, 49, 7, 9]
        assert got[4] % 2 == 1
        assert 0 <= got[5] < 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
def test_strange_settings_stay_within_the_vocabulary(bad: float) -> None:
    function = compiled(50)
    logits = np.random.default_rng(0).standard_normal((1, 50)).astype(np.float32)
    for name in ("temperature", "top_p", "uniform"):
        assert 0 <= function(logits, *settings(1, **{name: bad}))[0] < 50
    assert 0 <= function(logits, *settings(1, top_k=-5))[0] < 50


def test_matches_transformers() -> None:
    """Every token that transformers' warpers keep is drawn, and no other."""
    torch = pytest.importorskip("torch")
    from transformers import (
        LogitsProcessorList,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = np.random.default_rng(3).standard_normal((1, 300)).astype(np.float32) * 2
    warpers = LogitsProcessorList(
        [TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.8)]
    )
    warped = warpers(torch.zeros((1, 1), dtype=torch.long), torch.from_numpy(logits))
    probabilities = torch.softmax(warped, -1).numpy()[0]
    draws = 5000
    uniform = (np.arange(draws) + 0.5) / draws
    repeated = np.repeat(logits, draws, 0)
    got = compiled(300)(repeated, *settings(draws, 0.7, 0.8, 40, uniform))
    counts = np.bincount(got, minlength=300)
    np.testing.assert_allclose(counts / draws, probabilities, atol=1.5 / draws)
