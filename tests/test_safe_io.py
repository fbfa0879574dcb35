from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tvm_vacc.errors import ArtifactError, CheckpointError
from tvm_vacc.safe_io import inside, parse_json, read_json, read_text, sha256_file


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_json(path, error=CheckpointError, cure="download it again")
    text = str(caught.value)
    assert str(path) in text
    assert "download it again" in text
    assert "\n" not in text
    return text


def test_read_text_drops_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf\xe4\xbd\xa0")
    assert read_text(path, limit=10, error=CheckpointError) == "你"


@pytest.mark.parametrize("size", [9, 10])
def test_read_text_takes_what_the_limit_allows(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    assert len(read_text(path, limit=10, error=CheckpointError)) == size


def test_read_text_refuses_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 11)
    with pytest.raises(CheckpointError, match="larger than 10 bytes"):
        read_text(path, limit=10, error=CheckpointError)


def test_missing_file_directory_and_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    cases = {"none": "no such file", "": "is a directory", "pipe": "no such file", "\0": "no such"}
    for name, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            read_text(tmp_path / name, limit=10, error=CheckpointError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n"a": 1\n"b": 2}', "line 3"),
        (b'\n\n"\xff"', "line 3: not UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"x": {"b": 1, "b": 1}}', "'b' stands twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b'"\\ud800"', "not UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
        (b"1" * 5000, "not valid JSON"),
        (b"", "line 1"),
    ],
)
def test_read_json_refuses(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path / "a.json", content)


def test_parse_json_takes_bytes() -> None:
    assert parse_json('{"é": [1]}'.encode(), where="x", error=CheckpointError) == {"é": [1]}
    with pytest.raises(CheckpointError, match="x: not UTF-8"):
        parse_json(b'"\xff"', where="x", error=CheckpointError)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a", "a/../../b", "a/..", "", ".", "./a", "a//b", "a/", "a\\..\\b", "a\0b"],
)
def test_inside_refuses_names_that_are_no_plain_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="manifest"):
        inside(tmp_path, name, error=ArtifactError, where="manifest")


def test_inside_follows_links_only_when_told(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "out").symlink_to(outside)
    (root / "loop").symlink_to(root / "loop")
    (root / "own").symlink_to(root)
    assert inside(root, "a/b", error=ArtifactError) == root / "a" / "b"
    assert inside(root, "own", error=ArtifactError) == root / "own"
    with pytest.raises(ArtifactError, match="leads out"):
        inside(root, "out/file", error=ArtifactError)
    assert inside(root, "out/file", error=ArtifactError, follow_links=True) == root / "out" / "file"
    with pytest.raises(ArtifactError, match=r"\.\."):
        inside(root, "../outside", error=ArtifactError, follow_links=True)


def test_sha256_file_reads_all_blocks_and_reports_them(tmp_path: Path) -> None:
    data = os.urandom((8 << 20) + 123)
    path = tmp_path / "a"
    path.write_bytes(data)
    seen: list[int] = []
    assert sha256_file(path, seen.append) == hashlib.sha256(data).hexdigest()
    assert sum(seen) == len(data)
    assert len(seen) > 1
