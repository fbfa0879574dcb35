"""Reads plain text: UTF-8, documents separated by a blank line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tvm_vacc.errors import DatasetError
from tvm_vacc.limits import MAX_DATASET_TEXT_BYTES
from tvm_vacc.safe_io import read_text


def read_plain(path: Path) -> Iterator[str]:
    """Yield the documents of a text file.

    Raises:
        DatasetError: the file cannot be read, is larger than `MAX_DATASET_TEXT_BYTES`, or is not
            UTF-8.
    """
    cure = f"give a .txt file in UTF-8 of at most {MAX_DATASET_TEXT_BYTES >> 20} MiB"
    text = read_text(path, limit=MAX_DATASET_TEXT_BYTES, error=DatasetError, cure=cure)
    for is_document, lines in groupby(text.splitlines(), key=lambda line: bool(line.strip())):
        if is_document:
            yield "\n".join(lines)
