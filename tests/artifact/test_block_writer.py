"""Whatever the pieces are, the file is their sum, and it is written in aligned blocks."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest

from tvm_vacc.artifact.block_writer import BLOCK_BYTES, BlockWriter


class Recorder(io.BytesIO):
    """Notes where each write begins and ends."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(content)
        self.seek(0, io.SEEK_END)
        self.writes: list[tuple[int, int]] = []

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        start = self.tell()
        self.writes.append((start, start + len(data)))
        return super().write(data)

    def fileno(self) -> int:
        return _DISK


_DISK = os.open(__file__, os.O_RDONLY)
"""What is synced in the place of a recorder."""


@pytest.mark.parametrize("start", [0, 5, BLOCK_BYTES - 1, BLOCK_BYTES])
def test_content_and_alignment(start: int) -> None:
    rng = np.random.default_rng(0)
    stream = Recorder(bytes(start))
    digest = hashlib.sha256()
    pieces = [rng.bytes(n) for n in (3, BLOCK_BYTES + 17, 0, 100, 9 * BLOCK_BYTES, 1 << 20)]
    with BlockWriter(stream, digest, start) as writer:
        for piece in pieces:
            writer.write(piece)
    assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()
    assert stream.getvalue() == bytes(start) + b"".join(pieces)
    assert all(end % BLOCK_BYTES == 0 for _, end in stream.writes[:-1])
    assert all(end - begin <= BLOCK_BYTES for begin, end in stream.writes)


def test_after_a_flush_in_the_middle_blocks_are_aligned_again() -> None:
    stream = Recorder()
    with BlockWriter(stream, hashlib.sha256()) as writer:
        writer.write(b"abc")
        writer.flush()
        writer.write(bytes(2 * BLOCK_BYTES))
    whole = (BLOCK_BYTES, 2 * BLOCK_BYTES)
    assert stream.writes == [(0, 3), (3, BLOCK_BYTES), whole, (whole[1], whole[1] + 3)]


def test_a_flush_tells_the_hash_of_all_before_it() -> None:
    told: list[str] = []
    with BlockWriter(Recorder(), hashlib.sha256()) as writer:
        for piece in (b"abc", b"", bytes(BLOCK_BYTES)):
            writer.write(piece)
            writer.flush(told.append)
        writer.write(b"more")
    parts = (b"abc", b"abc", b"abc" + bytes(BLOCK_BYTES))
    assert told == [hashlib.sha256(part).hexdigest() for part in parts]


def test_a_long_file_is_synced_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr("tvm_vacc.artifact.block_writer._SYNCED_BLOCKS", 2)
    with BlockWriter(Recorder(), hashlib.sha256()) as writer:
        writer.write(bytes(4 * BLOCK_BYTES))
    assert _DISK in synced


def test_a_full_disk_is_told() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as stream,
        pytest.raises(OSError, match="28"),
        BlockWriter(stream, hashlib.sha256()) as writer,
    ):
        writer.write(b"abc")


def test_an_error_meanwhile_leaves_what_came_before_it() -> None:
    def stop() -> None:
        with BlockWriter(stream, hashlib.sha256()) as writer:
            writer.write(b"abc")
            raise ValueError("in between")

    stream = Recorder()
    with pytest.raises(ValueError, match="in between"):
        stop()
    assert stream.getvalue() == b"abc"
