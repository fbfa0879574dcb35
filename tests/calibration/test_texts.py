"""Every reader on small files of exactly the published form, and on each kind of damage."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.frontend.one_line import one_line_error
from tvm_vacc.calibration import texts_c4, texts_ceval
from tvm_vacc.calibration.texts_alpaca import read_alpaca
from tvm_vacc.calibration.texts_c4 import read_c4
from tvm_vacc.calibration.texts_ceval import read_ceval
from tvm_vacc.calibration.texts_plain import read_plain
from tvm_vacc.calibration.texts_source import BUILTIN, TextSource
from tvm_vacc.errors import DatasetError

DEV = ("id", "question", "A", "B", "C", "D", "answer", "explanation")
C4_LINE = {"text": "Beginners BBQ Class", "timestamp": "2019-04-25T12:57:54Z", "url": "https://x"}


def refused(call: Callable[[], Any], names: str) -> str:
    return one_line_error(call, names=names, kind=DatasetError)


def named(cases: dict[str, tuple[Any, ...]]) -> list[Any]:
    """Return the cases under their names: those of damaged bytes differ from process to process."""
    return [pytest.param(*values, id=name) for name, values in cases.items()]


def write_c4(path: Path, texts: list[str]) -> Path:
    lines = "".join(json.dumps(C4_LINE | {"text": text}) + "\n" for text in texts)
    path.write_bytes(gzip.compress(lines.encode()))
    return path


def csv_text(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([columns, *rows])
    return text.getvalue()


def write_zip(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_ceval(path: Path) -> Path:
    question = ("0", "下列关于税法的说法，\n正确的是____。", "甲", "乙", "丙", "丁")
    return write_zip(
        path,
        {
            "dev/accountant_dev.csv": csv_text(DEV, [(*question, "B", "1. 因为,所以")]),
            "val/accountant_val.csv": csv_text(DEV[:7], [(*question, "C")]),
            "test/accountant_test.csv": csv_text(DEV[:6], [question]),
        },
    )


def write_alpaca(path: Path, entries: object) -> Path:
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    return path


def entry(instruction: str = "Say hi.", given: str = "", output: str = "Hi.") -> dict[str, str]:
    return {"input": given, "instruction": instruction, "output": output}


def test_c4_yields_the_texts(tmp_path: Path) -> None:
    texts = ["A text\nof two lines.", "中文", "third"]
    assert list(read_c4(write_c4(tmp_path / "c4-train.00000-of-01024.json.gz", texts))) == texts


def test_c4_reads_no_more_than_is_asked_for(tmp_path: Path) -> None:
    path = write_c4(tmp_path / "c4.json.gz", ["first", *(f"text {n}" * 999 for n in range(3000))])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert next(read_c4(path)) == "first"


def test_c4_that_is_cut_off(tmp_path: Path) -> None:
    path = write_c4(tmp_path / "c4.json.gz", [f"text {n}" for n in range(1000)])
    path.write_bytes(path.read_bytes()[:-20])
    line = refused(lambda: list(read_c4(path)), f"{path}: cut off after line")
    assert "download" in line


@pytest.mark.parametrize(
    ("data", "names"),
    named(
        {
            "no gzip": (b"plain", "cannot be read as gzip"),
            "damaged": (gzip.compress(bytes(range(256)) * 99)[:30] + b"\xff" * 90, "gzip"),
            "no JSON": (gzip.compress(b'{"text": "a"}\nnot json\n'), "line 2"),
            "no object": (gzip.compress(b"[1]\n"), "line 1"),
            "no text": (gzip.compress(b'{"text": "a"}\n{"text": 3}\n'), "line 2: has no text"),
            "encoding": (gzip.compress('{"text": "ä"}\n'.encode("latin-1")), "line 1: not UTF-8"),
        }
    ),
)
def test_c4_that_is_damaged(tmp_path: Path, data: bytes, names: str) -> None:
    path = tmp_path / "c4.json.gz"
    path.write_bytes(data)
    assert names in refused(lambda: list(read_c4(path)), str(path))


def test_c4_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_c4(tmp_path / "c4.json.gz", ["a" * 500, "b" * 5000])
    monkeypatch.setattr(texts_c4, "MAX_DATASET_TEXT_BYTES", 1000)
    refused(lambda: list(read_c4(path)), "line 2: longer than")
    monkeypatch.setattr(texts_c4, "MAX_DATASET_TEXT_BYTES", 9000)
    monkeypatch.setattr(texts_c4, "MAX_DATASET_BYTES", 3000)
    refused(lambda: list(read_c4(path)), "too few long texts")


def test_c4_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_c4(tmp_path / "c4.json.gz", ["a" * 5000] * 3)
    monkeypatch.setattr(texts_c4, "MAX_DATASET_UNPACKED_BYTES", 9000)
    refused(lambda: texts_c4.require_whole(path, lambda _: None), "unpacks to more than")


def test_ceval_yields_questions_of_all_splits(tmp_path: Path) -> None:
    texts = list(read_ceval(write_ceval(tmp_path / "ceval-exam.zip")))
    asked = "下列关于税法的说法，\n正确的是____。\nA. 甲\nB. 乙\nC. 丙\nD. 丁"
    assert texts == [f"{asked}\n答案：B\n1. 因为,所以", asked, f"{asked}\n答案：C"]


@pytest.mark.parametrize(
    "name", ["../evil.csv", "/etc/evil.csv", "dev/../../evil.csv", "..\\e.csv"]
)
def test_ceval_with_a_name_that_leads_out(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "ceval.zip", {name: csv_text(DEV, [])})
    refused(lambda: list(read_ceval(path)), "leads out of the archive")


@pytest.mark.parametrize(
    ("member", "names"),
    named(
        {
            "columns": ("id,question,A,B\n1,q,a,b\n", "the columns are id,question,A,B"),
            "empty": ("", "the columns are missing"),
            "short row": ("id,question,A,B,C,D\n1,q,a,b,c,d\n2,q,a\n", "line 3: does not have 6"),
            "long row": ("id,question,A,B,C,D\n1,q,a,b,c,d,e\n", "line 2: does not have 6"),
            "quotes": ('id,question,A,B,C,D\n1,"q"x,a,b,c,d\n', "line 2: not valid csv"),
            "encoding": ("id,question,A,B,C,D\n1,问,a,b,c,d\n".encode("gbk"), "line 2: not UTF-8"),
        }
    ),
)
def test_ceval_with_a_damaged_member(tmp_path: Path, member: str | bytes, names: str) -> None:
    path = write_zip(tmp_path / "ceval.zip", {"dev/law_dev.csv": member})
    line = refused(lambda: list(read_ceval(path)), names)
    assert f"{path}: dev/law_dev.csv" in line


def test_ceval_that_is_no_archive_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "ceval.zip"
    path.write_bytes(b"nothing")
    refused(lambda: list(read_ceval(path)), f"{path}: damaged, or no zip")
    refused(lambda: list(read_ceval(write_zip(path, {"a.txt": "x"}))), "holds no .csv file")
    write_ceval(path)
    path.write_bytes(path.read_bytes()[:-30])
    refused(lambda: list(read_ceval(path)), f"{path}: damaged, or no zip")


def test_ceval_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = write_ceval(tmp_path / "ceval.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"dev/accountant_dev.csv") + 40] ^= 1
    path.write_bytes(bytes(data))
    refused(lambda: list(read_ceval(path)), "dev/accountant_dev.csv")


def test_ceval_with_encrypted_members(tmp_path: Path) -> None:
    path = write_ceval(tmp_path / "ceval.zip")
    data = bytearray(path.read_bytes())
    entry_of_directory = data.index(b"PK\x01\x02")
    data[entry_of_directory + 8] |= 1  # the flag; the data need not be
    data[6] |= 1
    path.write_bytes(bytes(data))
    refused(lambda: list(read_ceval(path)), "cannot be read")


def test_ceval_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = csv_text(DEV[:6], [("0", "问" * 3000, "a", "b", "c", "d")])
    path = write_zip(tmp_path / "ceval.zip", {f"dev/{n}_dev.csv": bomb for n in range(3)})
    monkeypatch.setattr(texts_ceval, "MAX_DATASET_TEXT_BYTES", 20_000)
    refused(lambda: list(read_ceval(path)), "unpacks to more than")
    monkeypatch.setattr(texts_ceval, "MAX_DATASET_MEMBERS", 2)
    refused(lambda: list(read_ceval(path)), "3 members, more than 2")


def test_alpaca_yields_the_entries(tmp_path: Path) -> None:
    path = write_alpaca(tmp_path / "a.json", [entry(), entry("翻译", "早", "morning")])
    assert list(read_alpaca(path)) == ["Say hi.\nHi.", "翻译\n早\nmorning"]


@pytest.mark.parametrize(
    ("document", "names"),
    named(
        {
            "object": ({"a": 1}, "is no list"),
            "no object": ([entry(), 3], "entry 2 has no text under 'instruction'"),
            "no output": (
                [{"instruction": "a", "input": ""}],
                "entry 1 has no text under 'output'",
            ),
            "number": ([entry() | {"input": 3}], "entry 1 has no text under 'input'"),
        }
    ),
)
def test_alpaca_of_another_form(tmp_path: Path, document: object, names: str) -> None:
    path = write_alpaca(tmp_path / "a.json", document)
    assert str(path) in refused(lambda: list(read_alpaca(path)), names)


def test_alpaca_that_is_cut_off(tmp_path: Path) -> None:
    path = write_alpaca(tmp_path / "a.json", [entry()] * 3)
    path.write_text(path.read_text()[:-9])
    refused(lambda: list(read_alpaca(path)), "line 1: not valid JSON")


def test_plain_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\nGenesis 1\nIn the\n\n\n \nGenesis 2\r\n\r\nend\n", encoding="utf-8")
    assert list(read_plain(path)) == ["Genesis 1\nIn the", "Genesis 2", "end"]
    path.write_bytes("a\nMüller".encode("latin-1"))
    refused(lambda: list(read_plain(path)), f"{path}: line 2: not UTF-8")


def test_the_builtin_text_is_none_of_the_held_out_one() -> None:
    from demo.fetch_text import read_documents

    held_out = Path(__file__).parents[2] / "demo/heldout"
    for name in ("kjv.txt", "poems.txt"):
        ours = {document for document in read_plain(BUILTIN / name)}
        theirs = {"\n".join(lines) for lines in read_documents(held_out / name)}
        assert len(ours) > 70
        assert not ours & theirs


def files_in(directory: Path) -> Iterator[str]:
    return (path.name for path in TextSource(directory).files()[1])


def test_the_format_is_that_of_the_names(tmp_path: Path) -> None:
    for name, kind in {
        "b.json.gz": "c4",
        "x.zip": "ceval",
        "x.json": "alpaca",
        "x.TXT": "text",
    }.items():
        path = tmp_path / name
        path.touch()
        assert TextSource(path).files() == (kind, (path,))


def test_shards_are_in_order(tmp_path: Path) -> None:
    for name in ("c4-train.00001.json.gz", "README.md", "c4-train.00000.json.gz"):
        (tmp_path / name).touch()
    assert list(files_in(tmp_path)) == ["c4-train.00000.json.gz", "c4-train.00001.json.gz"]


def test_files_that_cannot_be_told(tmp_path: Path) -> None:
    refused(lambda: TextSource(tmp_path).files(), f"{tmp_path}: no file of a known format")
    refused(lambda: TextSource(tmp_path / "x.zip").files(), "no such file")
    (tmp_path / "a.json").touch()
    (tmp_path / "b.txt").touch()
    refused(lambda: TextSource(tmp_path).files(), "several formats (alpaca, text)")
    assert TextSource(tmp_path, "text").files() == ("text", (tmp_path / "b.txt",))
    line = refused(lambda: TextSource(tmp_path / "b.txt", "c4").files(), "of no known format")
    assert "c4: .json.gz" in line
