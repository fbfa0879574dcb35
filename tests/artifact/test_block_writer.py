"""Whatever the pieces are, the file is their sum, and it is written in aligned blocks."""

from __future__ import annotations

import io
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


@pytest.mark.parametrize("start", [0, 5, BLOCK_BYTES - 1, BLOCK_BYTES])
def test_content_and_alignment(start: int) -> None:
    rng = np.random.default_rng(0)
    stream = Recorder(bytes(start))
    writer = BlockWriter(stream, start)
    pieces = [rng.bytes(n) for n in (3, BLOCK_BYTES + 17, 0, 100, 2 * BLOCK_BYTES, 1 << 20)]
    for piece in pieces:
        writer.write(piece)
    writer.flush()
    assert stream.getvalue() == bytes(start) + b"".join(pieces)
    assert all(end % BLOCK_BYTES == 0 for _, end in stream.writes[:-1])
    assert all(end - begin <= BLOCK_BYTES for begin, end in stream.writes)


def test_after_a_flush_in_the_middle_blocks_are_aligned_again() -> None:
    stream = Recorder()
    writer = BlockWriter(stream)
    writer.write(b"abc")
    writer.flush()
    writer.write(bytes(2 * BLOCK_BYTES))
    writer.flush()
    whole = (BLOCK_BYTES, 2 * BLOCK_BYTES)
    assert stream.writes == [(0, 3), (3, BLOCK_BYTES), whole, (whole[1], whole[1] + 3)]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as stream, pytest.raises(OSError, match="28"):
        BlockWriter(stream).write(bytes(BLOCK_BYTES))
