from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.passport.models import DEMO
from tvm_vacc.calibration.texts_source import BUILTIN
from tvm_vacc.errors import ConfigError
from tvm_vacc.passport.yardstick import Predictions, read_yardstick_text, top_tokens
from tvm_vacc.runtime.tokenizer import Tokenizer

OWN = (files("tvm_vacc.passport") / "yardstick.txt").read_text("utf-8")


def test_the_packages_text_was_not_trained_on_and_is_not_calibrated_on() -> None:
    held_out = "".join(path.read_text() for path in (DEMO.parent / "heldout").glob("*.txt"))
    calibration = {
        line for path in BUILTIN.glob("*.txt") for line in path.read_text().splitlines() if line
    }
    assert calibration
    assert all(line in held_out for line in OWN.splitlines())
    # Poems of one tune have equal headings.
    lines = [line for line in OWN.splitlines() if line and not line.startswith("《")]
    assert len(lines) > 100
    assert not calibration.intersection(lines)


def test_the_first_tokens_hold_both_languages() -> None:
    text = read_yardstick_text(None, Tokenizer.from_directory(DEMO), 256)
    assert (text.name, len(text.tokens), text.prefix) == ("", 256, 2)
    words = Tokenizer.from_directory(DEMO).decode(text.tokens)
    assert sum("\u4e00" <= char <= "\u9fff" for char in words) > 60
    assert sum(char.isascii() and char.isalpha() for char in words) > 200


def test_a_text_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("And God said, Let there be light." * 4)
    text = read_yardstick_text(path, Tokenizer.from_directory(DEMO), 20)
    assert text.name == "own.txt"
    assert text.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_a_text_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"own\.txt"):
        read_yardstick_text(path, Tokenizer.from_directory(DEMO), 20)


def test_top_tokens_are_the_most_probable_ones() -> None:
    values = np.random.default_rng(1).standard_normal(301)
    assert top_tokens(values).tolist() == np.argsort(-values)[:32].tolist()
    assert top_tokens(values[:5]).tolist() == np.argsort(-values[:5]).tolist()


def test_predictions_are_read_as_they_were_saved(tmp_path: Path) -> None:
    saved = Predictions(
        tokens=np.arange(5),
        first=1,
        next_log_probability=np.log([0.5, 0.25, 0.125]),
        top_ids=np.array([[1], [2], [3]]),
        top_log_probabilities=np.log([[0.5], [0.25], [0.125]]),
    )
    saved.save(tmp_path / "y.npz")
    found = Predictions.load(tmp_path / "y.npz")
    assert found.first == 1
    assert found.scored == 3
    assert found.perplexity == pytest.approx(4.0)
    np.testing.assert_array_equal(found.top_ids, saved.top_ids)
