"""Calibration samples: token ids of texts, drawn as the authors of GPTQ draw them.

Of a set of long texts (c4) each sample is a random window of another text that is long enough; a
set of short ones is joined, by blank lines, and cut. Source: Frantar et al., 2022,
https://github.com/IST-DASLab/gptq, `datautils.py` (`get_c4`, `get_wikitext2`). Two things differ:
samples of joined texts do not overlap, and every sample begins with the tokens that the model's
prompts begin with (GLM-4: ``[gMASK]<sop>``), on which attention leans.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from tvm_vacc.calibration.texts_alpaca import read_alpaca
from tvm_vacc.calibration.texts_c4 import read_c4, require_whole
from tvm_vacc.calibration.texts_ceval import read_ceval
from tvm_vacc.calibration.texts_plain import read_plain
from tvm_vacc.calibration.texts_source import TextFormat, TextSource
from tvm_vacc.errors import DatasetError
from tvm_vacc.progress import Report

_READERS: dict[TextFormat, Callable[[Path], Iterator[str]]] = {
    "c4": read_c4,
    "ceval": read_ceval,
    "alpaca": read_alpaca,
    "text": read_plain,
}
_CHOICE = 2
"""Long texts read for each that is taken: a c4 shard has 356,000, and is read no further."""

_LESS = "give more text, or lower dataset.nsamples or dataset.seqlen"


class Encoder(Protocol):
    """A tokenizer: `tvm_vacc.runtime.tokenizer.Tokenizer`."""

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Return the ids of `text`; with `add_special`, after the prefix that prompts have."""


def calibration_samples(
    source: TextSource, tokenizer: Encoder, report: Report = lambda _: None
) -> np.ndarray:
    """Read texts and return samples of them.

    Args:
        source: which texts, how many samples, how long.
        tokenizer: makes tokens of them.
        report: takes the progress of large files.

    Returns:
        Token ids ``[nsamples, seqlen]`` int64, the same for the same texts, tokenizer and seed.

    Raises:
        DatasetError: a file is missing, damaged, of another format, or holds too little text.
    """
    prefix = tokenizer.encode("")
    length = source.seqlen - len(prefix)
    if length < 1:
        raise DatasetError(
            f"dataset.seqlen: {source.seqlen} leaves no room after the {len(prefix)} tokens that "
            "every prompt begins with",
            f"write {len(prefix) + 1} or more",
        )
    kind, files = source.files()
    texts = (text for file in files for text in _texts_of(file, kind, report))
    draw = _windows_of_long_texts if kind == "c4" else _cuts_of_joined_texts
    windows = draw(texts, source, tokenizer, length)
    return np.array([prefix + window for window in windows], np.int64)


def _texts_of(file: Path, kind: TextFormat, report: Report) -> Iterator[str]:
    """Yield what is not empty of `file`; refuse it where nothing is."""
    if kind == "c4":  # whose end may never be read
        require_whole(file, report)
    empty = True
    for text in _READERS[kind](file):
        if text.strip():
            empty = False
            yield text
    if empty:
        raise DatasetError(f"{file}: holds no text", "give a file as published")


def _windows_of_long_texts(
    texts: Iterator[str], source: TextSource, tokenizer: Encoder, length: int
) -> list[list[int]]:
    """Cut one window of `length` tokens out of each of `nsamples` texts."""
    long: list[list[int]] = []
    for text in texts:
        if len(text.encode()) < length:  # no token is shorter than a byte
            continue
        ids = tokenizer.encode(text, add_special=False)
        if len(ids) >= length:
            long.append(ids)
        if len(long) == _CHOICE * source.nsamples:
            break
    if len(long) < source.nsamples:
        raise DatasetError(
            f"{source.path}: {len(long)} texts have {length} tokens, {source.nsamples} are needed",
            _LESS,
        )
    rng = random.Random(source.seed)
    starts = ((ids, rng.randint(0, len(ids) - length)) for ids in rng.sample(long, source.nsamples))
    return [ids[start : start + length] for ids, start in starts]


def _cuts_of_joined_texts(
    texts: Iterator[str], source: TextSource, tokenizer: Encoder, length: int
) -> list[list[int]]:
    """Join texts in random order, as many as are needed, and cut `nsamples` times `length`."""
    shuffled = list(texts)
    rng = random.Random(source.seed)
    rng.shuffle(shuffled)
    needed = source.nsamples * length
    ids: list[int] = []
    for text in shuffled:
        ids += tokenizer.encode(text + "\n\n", add_special=False)
        if len(ids) >= needed:
            break
    if len(ids) < needed:
        raise DatasetError(
            f"{source.path}: {len(ids)} tokens, {source.nsamples} samples need {needed}", _LESS
        )
    start = rng.randint(0, len(ids) - needed)
    return [ids[at : at + length] for at in range(start, start + needed, length)]
