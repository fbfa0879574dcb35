"""Writes a file in whole, aligned blocks, so that the page cache keeps it in large pages.

Linux (ext4 since 6.16, XFS, btrfs) caches a file in pieces as large as the writes that made it, and
maps a piece of 2 MiB that stands at a multiple of 2 MiB by one entry. Weights that were written
tensor by tensor, each at its own offset, stay in small pages until they leave the cache, and
kernels read those more slowly.
"""

from __future__ import annotations

from typing import BinaryIO, Final

BLOCK_BYTES: Final = 4 << 20
"""Bytes of a write: two large pages."""


class BlockWriter:
    """Collects what is written to a file into blocks that begin at multiples of `BLOCK_BYTES`."""

    def __init__(self, stream: BinaryIO, position: int = 0) -> None:
        """Go on writing `stream`, which stands at byte `position` of its file."""
        self._stream = stream
        self._block = bytearray(BLOCK_BYTES)
        self._begin = self._end = position % BLOCK_BYTES

    def write(self, data: bytes | memoryview) -> None:
        """Take `data`; whole blocks go to the file.

        Raises:
            OSError: the disk is full.
        """
        view = memoryview(data)
        while view:
            part = view[: BLOCK_BYTES - self._end]
            self._block[self._end : self._end + len(part)] = part
            self._end += len(part)
            view = view[len(part) :]
            if self._end == BLOCK_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what there is of the block.

        Raises:
            OSError: the disk is full.
        """
        if self._end > self._begin:
            with memoryview(self._block) as block:
                self._stream.write(block[self._begin : self._end])
        self._stream.flush()
        self._begin = self._end = self._end % BLOCK_BYTES
