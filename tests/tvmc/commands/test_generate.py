from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import FakeModel
from tvm_vacc.runtime.tokenizer import Tokenizer


def test_streams_the_answer_and_prints_figures(
    tvmc: Tvmc, model: FakeModel, artefact: Path
) -> None:
    code, out, err = tvmc("generate", artefact, "--prompt", "月")
    assert code == 0
    assert out == model.text + "\n"
    assert err.startswith("time to first token 0.125 s, ")
    assert "tokens/s, 3 prompt tokens, " in err
    assert "peak memory " in err
    assert model.closed == 1


def test_passes_all_options(tvmc: Tvmc, model: FakeModel, artefact: Path) -> None:
    options = "--max-tokens 3 --temperature 0.5 --top-p 0.9 --top-k 40 --seed 7 --threads 1"
    tvmc("generate", artefact, "--prompt", "a", *options.split())
    prompt = model.tokenizer.encode("a")
    assert model.requests == [(prompt, 3, 0.5, 0.9, 40, 7)]


def test_defaults_are_greedy_and_the_whole_context(
    tvmc: Tvmc, model: FakeModel, artefact: Path
) -> None:
    tvmc("generate", artefact, "--prompt", "a")
    assert model.requests[0][1:] == (model.context, 0.0, 1.0, 0, None)


def test_chat_applies_the_template_and_drops_the_first_line_break(
    tvmc: Tvmc, model: FakeModel, artefact: Path
) -> None:
    _, out, _ = tvmc("generate", artefact, "--prompt", "hi", "--chat")
    assert out == model.text.lstrip() + "\n"
    ids = model.requests[0][0]
    text = model.tokenizer.decode(ids, skip_special=False)
    assert text == "[gMASK]<sop><|user|>\nhi<|assistant|>"


def test_prompt_from_standard_input(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    tvmc("generate", artefact, "--prompt", "-")
    assert model.requests[0][0] == model.tokenizer.encode("two\nlines")


def test_bytes_that_are_no_text_are_one_line(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), "utf-8"))
    code, _, err = tvmc("generate", artefact, "--prompt", "-")
    assert code == 4
    assert "not valid UTF-8" in err


def test_a_graph_is_refused(tvmc: Tvmc, graph_artefact: Path) -> None:
    code, _, err = tvmc("generate", graph_artefact, "--prompt", "a")
    assert code == 4
    assert f"is no language model; use: tvmc run {graph_artefact}" in err


def test_missing_tokenizer_is_named(
    tvmc: Tvmc, model: FakeModel, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        FakeModel, "tokenizer", property(lambda self: Tokenizer.from_directory(tmp_path)), False
    )
    del model.__dict__["tokenizer"]
    code, _, err = tvmc("generate", artefact, "--prompt", "a")
    assert code == 4
    assert "tokenizer.json: there is no such file" in err
