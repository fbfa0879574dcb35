from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import demo
from benchmarks.accuracy import (
    Reference,
    Scores,
    Window,
    held_out_windows,
    measure,
    reference_scores,
)
from benchmarks.system import Start
from demo.evaluate import TEXTS, held_out
from tests.frontend.glm_factory import load_oracle, make_glm_checkpoint
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.runtime.tokenizer import Tokenizer

DEMO = Path(demo.__file__).parent / "checkpoint"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glm_checkpoint(tmp_path_factory.mktemp("glm") / "tiny", vocab_size=300)


def some_windows(*lengths: int) -> list[Window]:
    random = np.random.default_rng(0)
    return [Window(tuple(random.integers(0, 300, length).tolist()), 2) for length in lengths]


def test_half_of_a_window_is_a_prompt_and_the_rest_comes_token_by_token() -> None:
    assert Window((1, 2, 3, 4, 5), 1).steps == [[1, 2], [3], [4], [5]]
    assert Window((1, 2, 3), 2).steps == [[1, 2], [3]]
    assert Window((1, 2, 3, 4, 5), 2).answers.tolist() == [3, 4, 5]


def test_windows_are_of_the_whole_held_out_text() -> None:
    tokenizer = Tokenizer.from_directory(DEMO)
    windows = held_out_windows(tokenizer, 12)
    prefix = [tokenizer.backend.token_to_id(token) for token in ("[gMASK]", "<sop>")]
    assert all(list(window.tokens[: window.prefix]) == prefix for window in windows)
    assert all(2 < len(window.tokens) <= 256 for window in windows)
    texts = [tokenizer.decode(window.tokens) for window in windows]
    sources = ["\n\n".join(held_out(name)) for name in TEXTS]
    places = [[text in source for source in sources] for text in texts]
    assert all(any(place) for place in places)
    assert all(any(column) for column in zip(*places, strict=True))
    with pytest.raises(ConfigError, match="the held-out text has"):
        held_out_windows(tokenizer, 1_000_000)


def test_the_reference_is_transformers_in_fp32_on_every_window(tiny: Path) -> None:
    windows = some_windows(9, 31, 17)
    oracle = load_oracle(tiny)
    nats = []
    reference = Reference(open_checkpoint(tiny), windows)
    for window, (same, found) in zip(windows, reference.predictions(), strict=True):
        assert same is window
        ids = torch.tensor(window.tokens)[None]
        with torch.no_grad():
            logits = oracle(ids).logits[0, 1:-1]
        np.testing.assert_allclose(found, logits.double().log_softmax(-1).numpy(), atol=1e-4)
        nats.append(functional.cross_entropy(logits, ids[0, 2:], reduction="none"))
    scores = reference_scores(reference)
    assert scores.perplexity == pytest.approx(float(torch.cat(nats).mean().exp()), rel=1e-5)
    assert scores.agrees.all()
    assert not scores.kl.any()


def test_scores_are_those_of_torch() -> None:
    random = np.random.default_rng(1)
    windows = some_windows(7, 4)
    logits = [[random.normal(0, 3, (len(w.tokens), 300)) for w in windows] for _ in range(2)]
    known, found = ([w.scored(x) for w, x in zip(windows, each, strict=True)] for each in logits)
    scores = Scores.all(
        [Scores.of(k, f, w.answers) for k, f, w in zip(known, found, windows, strict=True)]
    )
    p, q = (torch.cat([torch.tensor(x[1:-1]).log_softmax(-1) for x in each]) for each in logits)
    expected = functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    np.testing.assert_allclose(scores.kl, expected.numpy(), rtol=1e-9)
    assert scores.agrees.tolist() == (p.argmax(-1) == q.argmax(-1)).tolist()
    answers = torch.tensor(np.concatenate([w.answers for w in windows]))
    assert scores.perplexity == pytest.approx(float(functional.nll_loss(q, answers).exp()))


def test_an_artefact_is_measured_and_one_of_another_vocabulary_refused(
    artefact: Path, tiny: Path, tmp_path: Path
) -> None:
    start = Start("ours", sys.executable, artefact, 1)
    reference = Reference(open_checkpoint(artefact.parent / "tiny"), some_windows(40, 21))
    row = measure(start, reference, note=", as it is")
    assert row.system == "tvm_vacc bf16, as it is"
    assert 0 < row.kl_mean < 1e-2  # weights of 8 bits: 1e-5 at 11, 1e-3 here
    assert row.kl_mean < row.kl_p99
    assert row.top1 > 0.9
    assert row.perplexity == pytest.approx(reference_scores(reference).perplexity, rel=0.05)

    other = make_glm_checkpoint(tmp_path / "other", seed=5)
    far = measure(start, Reference(open_checkpoint(other), some_windows(40)))
    assert far.kl_mean > 1
    larger = make_glm_checkpoint(tmp_path / "larger", vocab_size=320)
    with pytest.raises(ConfigError, match=r"shape \[40, 300\], not \[40, 320\]"):
        measure(start, Reference(open_checkpoint(larger), some_windows(40)))
