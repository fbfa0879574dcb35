"""The compiled model against transformers in fp32: logits, text, chunks, batches, sessions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.e2e.conftest import SHAPES, Compiled
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.kv_cache import Sequence

Get = Callable[[str], Compiled]
every_shape = pytest.mark.parametrize("shape", SHAPES)
ONE = "gqa2_half_rotary"


@every_shape
def test_logits(compiled: Get, shape: str) -> None:
    glm = compiled(shape)
    tokens = glm.prompt(150)
    got, want = glm.model.logits(tokens), glm.oracle_logits(tokens)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    worst = np.abs(got - want).max()
    print(
        f"{shape}: worst difference of logits {worst:.2e}, largest logit {np.abs(want).max():.1f}"
    )
    assert worst < 1e-4


@every_shape
def test_256_greedy_tokens(compiled: Get, shape: str) -> None:
    glm = compiled(shape)
    prompt = glm.prompt(20, seed=1)
    with torch.no_grad():
        out = glm.oracle.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=256,
            min_new_tokens=256,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    want = out[0, len(prompt) :].tolist()
    assert len(set(want)) > 20, "the oracle's text does not vary: this would prove nothing"
    assert list(glm.model.generate(prompt, 256, stop_ids=[])) == want


@every_shape
@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_any_chunking_gives_the_same_logits_bit_for_bit(
    compiled: Get, shape: str, chunk: int
) -> None:
    model = compiled(shape).model
    tokens = compiled(shape).prompt(50)
    whole = model.logits(tokens)
    with model.temporary_sequence() as sequence:
        parts = [
            model.step([Row(sequence, tokens[i : i + chunk], all_logits=True)]).numpy()
            for i in range(0, len(tokens), chunk)
        ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@every_shape
def test_batch_rows_give_what_they_give_alone(compiled: Get, shape: str) -> None:
    glm = compiled(shape)
    model = glm.model
    prompts = [glm.prompt(length, seed=length) for length in (1, 17, 5, 32)]
    alone = [model.logits(prompt) for prompt in prompts]
    sequences = [Sequence() for _ in prompts]
    rows = [Row(s, p, all_logits=True) for s, p in zip(sequences, prompts, strict=True)]
    together = np.split(model.step(rows).numpy(), np.cumsum([len(p) for p in prompts])[:-1])
    for one, among_others in zip(alone, together, strict=True):
        np.testing.assert_array_equal(among_others, one)
    next_alone = [model.logits([*prompt, 3])[-1] for prompt in prompts]
    step = model.step([Row(sequence, [3]) for sequence in sequences]).numpy()
    np.testing.assert_array_equal(step, next_alone)
    for sequence in sequences:
        model.pool.truncate(sequence, 0)


def test_a_used_session_answers_as_a_fresh_one(compiled: Get) -> None:
    glm = compiled(ONE)
    first, second = glm.prompt(40, seed=5), glm.prompt(30, seed=6)
    with glm.model.session() as session:
        answer = list(session.generate(first, 20, stop_ids=[]))
        turn = [*first, *answer, *second]
        continued = list(session.generate(turn, 20, stop_ids=[]))
        assert session.stats.reused_tokens == len(first) + len(answer) - 1
        assert continued == list(glm.model.generate(turn, 20, stop_ids=[]))
        unrelated = list(session.generate(second, 20, stop_ids=[]))
        assert session.stats.reused_tokens == 0
        assert unrelated == list(glm.model.generate(second, 20, stop_ids=[]))


def test_sessions_give_their_pages_back(compiled: Get) -> None:
    model = compiled(ONE).model
    free = model.pool.free_pages
    answer = model.generate(compiled(ONE).prompt(40), 20)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    assert model.pool.free_pages == free


def test_every_end_token_stops(compiled: Get) -> None:
    glm = compiled(ONE)
    prompt = glm.prompt(20, seed=1)
    free_run = list(glm.model.generate(prompt, 40, stop_ids=[]))
    stop = free_run[10]
    assert list(glm.model.generate(prompt, 40, stop_ids=[stop])) == free_run[: free_run.index(stop)]
    assert glm.model.spec.eos_token_ids == (297, 298, 299)


def test_sampling_is_repeatable_and_varies(compiled: Get) -> None:
    glm = compiled(ONE)
    prompt = glm.prompt(8)

    def draw(seed: int) -> list[int]:
        return list(glm.model.generate(prompt, 30, temperature=1.0, seed=seed, stop_ids=[]))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_an_answer_ends_where_the_context_ends(compiled: Get) -> None:
    glm = compiled(ONE)
    prompt = glm.prompt(glm.model.context - 3)
    assert len(list(glm.model.generate(prompt, 100, stop_ids=[]))) == 4
