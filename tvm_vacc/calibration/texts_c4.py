"""Reads c4 as published: gzipped lines of JSON, each an object with the key ``text``.

Source: Raffel et al., 2020; https://huggingface.co/datasets/allenai/c4, `en/c4-train.*.json.gz`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from tvm_vacc.errors import DatasetError
from tvm_vacc.limits import MAX_DATASET_BYTES, MAX_DATASET_TEXT_BYTES
from tvm_vacc.safe_io import parse_json_object

_CURE = "download the .json.gz file again"


def read_c4(path: Path) -> Iterator[str]:
    """Yield the texts of a shard, one after the other; no more is read than is asked for.

    Raises:
        DatasetError: the file is no gzip, or cut off; a line is no JSON object with a text, or
            longer than `MAX_DATASET_TEXT_BYTES`; more than `MAX_DATASET_BYTES` are asked for.
    """
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}: line {number}"
        text = parse_json_object(line, where=where, error=DatasetError, cure=_CURE).get("text")
        if not isinstance(text, str):
            raise DatasetError(f"{where}: has no text under the key 'text'", _CURE)
        yield text


def _lines(path: Path) -> Iterator[bytes]:
    read = number = 0
    try:
        with gzip.open(path, "rb") as stream:
            while line := stream.readline(MAX_DATASET_TEXT_BYTES + 1):
                read, number = read + len(line), number + 1
                if len(line) > MAX_DATASET_TEXT_BYTES:
                    message = f"line {number}: longer than {MAX_DATASET_TEXT_BYTES >> 20} MiB"
                    raise DatasetError(f"{path}: {message}", "give c4's files as published")
                if read > MAX_DATASET_BYTES:
                    message = f"no end and too few long texts in {MAX_DATASET_BYTES >> 20} MiB"
                    raise DatasetError(f"{path}: {message}", "lower dataset.seqlen or nsamples")
                yield line
    except EOFError as problem:
        raise DatasetError(f"{path}: cut off after line {number}", _CURE) from problem
    except (OSError, zlib.error) as problem:
        raise DatasetError(f"{path}: cannot be read as gzip ({problem})", _CURE) from problem
