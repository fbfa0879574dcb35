"""Reads c4 as published: gzipped lines of JSON, each an object with the key ``text``.

Source: Raffel et al., 2020; https://huggingface.co/datasets/allenai/c4, `en/c4-train.*.json.gz`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tvm_vacc.errors import DatasetError
from tvm_vacc.limits import (
    MAX_DATASET_BYTES,
    MAX_DATASET_TEXT_BYTES,
    MAX_DATASET_UNPACKED_BYTES,
)
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import parse_json_object

_CURE = "download the .json.gz file again"
_CHUNK = 1 << 20


def require_whole(path: Path, report: Report) -> None:
    """Unpack a shard to its end, where its checksum stands; nothing of it is kept.

    Far fewer texts than a shard has are wanted, so that reading them would not notice that a
    download has broken off. c4's shards (320 MB, 820 MB unpacked) take some 5 s.

    Args:
        path: of the shard.
        report: is told the bytes of the file that were read.

    Raises:
        DatasetError: the file is no gzip, cut off or damaged, or unpacks to more than
            `MAX_DATASET_UNPACKED_BYTES`.
    """
    unpacked = 0
    with _one_line(path), path.open("rb") as file, gzip.open(file, "rb") as stream:
        total = path.stat().st_size
        report(Progress("dataset", 0, total, "bytes"))
        while chunk := stream.read(_CHUNK):
            unpacked += len(chunk)
            if unpacked > MAX_DATASET_UNPACKED_BYTES:
                message = f"unpacks to more than {MAX_DATASET_UNPACKED_BYTES >> 20} MiB"
                raise DatasetError(f"{path}: {message}", "give c4's files as published")
            report(Progress("dataset", min(file.tell(), total), total, "bytes"))
        report(Progress("dataset", total, total, "bytes"))


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
    with _one_line(path) as where, gzip.open(path, "rb") as stream:
        while line := stream.readline(MAX_DATASET_TEXT_BYTES + 1):
            read, number = read + len(line), number + 1
            where[0] = f" after line {number}"
            if len(line) > MAX_DATASET_TEXT_BYTES:
                message = f"line {number}: longer than {MAX_DATASET_TEXT_BYTES >> 20} MiB"
                raise DatasetError(f"{path}: {message}", "give c4's files as published")
            if read > MAX_DATASET_BYTES:
                message = f"no end and too few long texts in {MAX_DATASET_BYTES >> 20} MiB"
                raise DatasetError(f"{path}: {message}", "lower dataset.seqlen or nsamples")
            yield line


@contextmanager
def _one_line(path: Path) -> Iterator[list[str]]:
    """Make one line of what gzip raises; yields where the reader notes how far it has come."""
    where = [""]
    try:
        yield where
    except EOFError as problem:
        raise DatasetError(f"{path}: cut off{where[0]}", _CURE) from problem
    except (OSError, zlib.error) as problem:
        raise DatasetError(f"{path}: cannot be read as gzip ({problem})", _CURE) from problem
