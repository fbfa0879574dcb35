"""Samples are windows of the texts, the same for the same seed, behind the model's prefix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.calibration.test_texts import (
    entry,
    refused,
    write_alpaca,
    write_c4,
    write_ceval,
)
from tvm_vacc.calibration.samples import calibration_samples
from tvm_vacc.calibration.texts_source import TextSource
from tvm_vacc.progress import Progress
from tvm_vacc.runtime.tokenizer import Tokenizer

DEMO = Path(__file__).parents[2] / "demo/checkpoint"
PREFIX = [1, 2]


class Bytes:
    """A tokenizer of one byte a token, with a prefix."""

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        return [*(PREFIX if add_special else []), *(byte + 10 for byte in text.encode())]


def text_of(sample: np.ndarray) -> str:
    assert sample[:2].tolist() == PREFIX
    return bytes(int(token) - 10 for token in sample[2:]).decode()


def test_samples_of_c4_are_windows_of_long_texts(tmp_path: Path) -> None:
    texts = [f"{n:03}" * 11 if n % 2 else "short" for n in range(40)]
    source = TextSource(write_c4(tmp_path / "a.json.gz", texts), nsamples=5, seqlen=31)
    samples = calibration_samples(source, Bytes())
    assert samples.shape == (5, 31)
    assert samples.dtype == np.int64
    windows = [text_of(sample) for sample in samples]
    found = [next(n for n, text in enumerate(texts) if window in text) for window in windows]
    assert len(set(found)) == 5
    assert len({window[:3] in texts[n][:3] for window, n in zip(windows, found, strict=True)}) == 2
    np.testing.assert_array_equal(samples, calibration_samples(source, Bytes()))
    assert (samples != calibration_samples(replace(source, seed=1), Bytes())).any()


def test_a_shard_that_is_cut_off_far_behind_what_is_needed(tmp_path: Path) -> None:
    path = write_c4(tmp_path / "a.json.gz", [str(n) * 50 for n in range(4000)])
    source = TextSource(path, nsamples=4, seqlen=31)
    told: list[Progress] = []
    calibration_samples(source, Bytes(), told.append)
    size = path.stat().st_size
    assert {(p.phase, p.total, p.unit) for p in told} == {("dataset", size, "bytes")}
    assert (told[0].done, told[-1].done) == (0, size)
    path.write_bytes(path.read_bytes()[:-9])
    refused(lambda: calibration_samples(source, Bytes()), "cut off; download")


def test_texts_of_exactly_the_length_will_do(tmp_path: Path) -> None:
    path = write_c4(tmp_path / "a.json.gz", ["a" * 29, "b" * 28])
    [sample] = calibration_samples(TextSource(path, nsamples=1, seqlen=31), Bytes())
    assert text_of(sample) == "a" * 29
    source = TextSource(path, nsamples=2, seqlen=31)
    refused(lambda: calibration_samples(source, Bytes()), "1 texts have 29 tokens, 2 are needed")


def test_short_texts_are_joined_and_cut(tmp_path: Path) -> None:
    entries = [entry(f"question {n}", "", f"answer {n}") for n in range(50)]
    path = write_alpaca(tmp_path / "a.json", entries)
    source = TextSource(path, nsamples=6, seqlen=32)
    joined = "".join(map(text_of, calibration_samples(source, Bytes())))
    whole = [f"question {n}\nanswer {n}" for n in range(50)]
    inner = joined.split("\n\n")[1:-1]
    assert len(inner) > 4
    assert all(text in whole for text in inner)
    assert inner != sorted(inner)
    other = calibration_samples(replace(source, seed=7), Bytes())
    assert "".join(map(text_of, other)) != joined


def test_too_little_text(tmp_path: Path) -> None:
    source = TextSource(write_ceval(tmp_path / "c.zip"), nsamples=9, seqlen=50)
    line = refused(lambda: calibration_samples(source, Bytes()), f"{source.path}: ")
    assert "tokens, 9 samples need 432" in line
    assert "dataset.nsamples" in line


def test_a_length_that_the_prefix_fills() -> None:
    line = refused(lambda: calibration_samples(TextSource(seqlen=2), Bytes()), "dataset.seqlen: 2")
    assert "write 3 or more" in line


@pytest.mark.parametrize("name", ["a.txt", "a.json.gz", "a.json", "a.zip"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    refused(lambda: calibration_samples(TextSource(path), Bytes()), str(path))


def test_files_of_nothing(tmp_path: Path) -> None:
    path = write_alpaca(tmp_path / "a.json", [])
    refused(lambda: calibration_samples(TextSource(path), Bytes()), f"{path}: holds no text")


def test_the_default_is_the_text_of_the_demo() -> None:
    tokenizer = Tokenizer.from_directory(DEMO)
    samples = calibration_samples(TextSource(), tokenizer)
    assert samples.shape == (128, 512)
    assert (samples[:, :2] == tokenizer.encode("")).all()
    texts = [tokenizer.decode(sample.tolist()) for sample in samples]
    assert any("the LORD" in text for text in texts)
    assert any("东风" in text for text in texts)
    assert len({text[:50] for text in texts}) == 128
