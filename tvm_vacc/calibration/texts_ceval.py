"""Reads C-Eval as published: a zip of csv files, one a subject and split.

Source: Huang et al., 2023; https://huggingface.co/datasets/ceval/ceval-exam, `ceval-exam.zip` with
`dev/*_dev.csv`, `val/*_val.csv` and `test/*_test.csv`. Columns are ``id, question, A, B, C, D``;
dev and val have ``answer`` too, and dev an ``explanation``.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tvm_vacc.errors import DatasetError
from tvm_vacc.limits import MAX_DATASET_MEMBERS, MAX_DATASET_TEXT_BYTES

_CHOICES = ("A", "B", "C", "D")
_COLUMNS = ("id", "question", *_CHOICES)
_OPTIONAL = ("answer", "explanation")
_AGAIN = "download the .zip file again"
_CURE = "give ceval-exam.zip as published"


def read_ceval(path: Path) -> Iterator[str]:
    """Yield each question with its choices and, where they are there, answer and explanation.

    Nothing is unpacked to disk.

    Raises:
        DatasetError: the file is no zip; a member is damaged, encrypted, or no csv of these
            columns in UTF-8; a name leads out of the archive; the csv files have more than
            `MAX_DATASET_TEXT_BYTES` together, or are more than `MAX_DATASET_MEMBERS`.
    """
    room = MAX_DATASET_TEXT_BYTES
    for where, data in _members(path):
        room -= len(data)
        if room < 0:
            message = f"unpacks to more than {MAX_DATASET_TEXT_BYTES >> 20} MiB"
            raise DatasetError(f"{path}: {message}", _CURE)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            line = data.count(b"\n", 0, problem.start) + 1
            raise DatasetError(f"{where}: line {line}: not UTF-8 text", _CURE) from problem
        yield from _questions(text, where)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for member in _csv_members(archive, path):
                where = f"{path}: {member.filename}"
                # The size that the archive states is not to be relied on.
                with archive.open(member) as stream:
                    yield where, stream.read(MAX_DATASET_TEXT_BYTES + 1)
    except zipfile.BadZipFile as problem:
        raise DatasetError(f"{where}: damaged, or no zip ({problem})", _AGAIN) from problem
    except (OSError, EOFError, zlib.error, RuntimeError, NotImplementedError) as problem:
        raise DatasetError(f"{where}: cannot be read ({problem})", _CURE) from problem


def _csv_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > MAX_DATASET_MEMBERS:
        message = f"{len(members)} members, more than {MAX_DATASET_MEMBERS}"
        raise DatasetError(f"{path}: {message}", _CURE)
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            message = f"the member {member.filename!r} leads out of the archive"
            raise DatasetError(f"{path}: {message}", _CURE)
    found = [m for m in members if m.filename.endswith(".csv") and "__MACOSX" not in m.filename]
    if not found:
        raise DatasetError(f"{path}: holds no .csv file", _CURE)
    return sorted(found, key=lambda member: member.filename)


def _questions(text: str, where: str) -> Iterator[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = tuple(rows.fieldnames or ())
        if columns not in (_COLUMNS, (*_COLUMNS, *_OPTIONAL[:1]), (*_COLUMNS, *_OPTIONAL)):
            wanted = ",".join((*_COLUMNS, *_OPTIONAL))
            raise DatasetError(
                f"{where}: the columns are {','.join(columns) or 'missing'}, not {wanted}", _CURE
            )
        for row in rows:
            if None in row or None in row.values():
                message = f"line {rows.line_num}: does not have {len(columns)} columns"
                raise DatasetError(f"{where}: {message}", _CURE)
            yield _question(row)
    except csv.Error as problem:
        message = f"line {rows.reader.line_num}: not valid csv ({problem})"
        raise DatasetError(f"{where}: {message}", _CURE) from problem


def _question(row: dict[str, str]) -> str:
    lines = [row["question"], *(f"{choice}. {row[choice]}" for choice in _CHOICES)]
    if row.get("answer"):
        lines.append(f"答案：{row['answer']}")
    if row.get("explanation"):
        lines.append(row["explanation"])
    return "\n".join(lines)
