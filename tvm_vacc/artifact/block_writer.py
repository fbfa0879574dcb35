"""Writes a file in whole, aligned blocks, so that the page cache keeps it in large pages.

Linux (ext4 since 6.16, XFS, btrfs) caches a file in pieces as large as the writes that made it, and
maps a piece of 2 MiB that stands at a multiple of 2 MiB by one entry. Weights that were written
tensor by tensor, each at its own offset, stay in small pages until they leave the cache, and
kernels read those more slowly.

A block is written by one thread and hashed by another while the next ones are filled: each takes
about as long as making the block does. The disk, too, works from the first blocks on: what the
page cache holds back would have to be waited for at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES: Final = 4 << 20
"""Bytes of a write: two large pages."""

_BLOCKS = 4
"""Blocks in memory: one is filled, the others are written and hashed."""

_SYNCED_BLOCKS = 32
"""Blocks after which the disk is told to begin."""


class BlockWriter(AbstractContextManager["BlockWriter"]):
    """Collects what is written to a file into blocks that begin at multiples of `BLOCK_BYTES`.

    A context manager: leaving it writes and hashes the rest, and ends the threads.
    """

    def __init__(self, stream: BinaryIO, digest: _Hash, position: int = 0) -> None:
        """Go on writing `stream`, which stands at byte `position` of its file.

        Args:
            stream: takes the blocks.
            digest: takes them too; complete when the writer is closed.
            position: where the next byte goes.
        """
        self._stream, self._digest = stream, digest
        self._blocks = [bytearray(BLOCK_BYTES) for _ in range(_BLOCKS)]
        self._pending: list[list[Future[Any]]] = [[] for _ in range(_BLOCKS)]
        self._current = 0
        self._begin = self._end = position % BLOCK_BYTES
        self._unsynced = 0
        self._sync: Future[None] | None = None
        with ExitStack() as stack:
            self._writing, self._hashing, self._syncing = (
                stack.enter_context(ThreadPoolExecutor(1, name))
                for name in ("write", "sha256", "sync")
            )
            self._threads = stack.pop_all()

    def write(self, data: bytes | memoryview) -> None:
        """Take `data`; whole blocks go to the file.

        Raises:
            OSError: the disk is full; it may be an earlier block that found out.
        """
        view = memoryview(data)
        while view:
            part = view[: BLOCK_BYTES - self._end]
            self._blocks[self._current][self._end : self._end + len(part)] = part
            self._end += len(part)
            view = view[len(part) :]
            if self._end == BLOCK_BYTES:
                self.flush()

    def flush(self, then: Callable[[str], None] | None = None) -> None:
        """Hand on what there is of the block.

        Args:
            then: is called, by the thread that hashes, with the hash of all up to here.

        Raises:
            OSError: as `write`.
        """
        pending = self._pending[self._current]
        if self._end > self._begin:
            part = memoryview(self._blocks[self._current])[self._begin : self._end]
            pending.append(self._writing.submit(self._write, part))
            pending.append(self._hashing.submit(self._digest.update, part))
            self._begin = self._end
        if then is not None:
            pending.append(self._hashing.submit(lambda: then(self._digest.hexdigest())))
        if self._end == BLOCK_BYTES:
            self._current = (self._current + 1) % _BLOCKS
            self._begin = self._end = 0
            self._start_disk()
            self._wait(self._current)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Write the rest; after an error as much of it as can be.

        Raises:
            OSError: the disk is full.
        """
        with self._threads:
            self.flush()
        if kind is None:
            self._wait_for_all()

    def close(self) -> None:
        """Write the rest, and wait until all is written and hashed; there may be no more.

        Raises:
            OSError: the disk is full.
        """
        self.flush()
        self._wait_for_all()

    def _wait_for_all(self) -> None:
        for index in range(_BLOCKS):
            self._wait(index)

    def _wait(self, index: int) -> None:
        """Wait until nobody reads a block any more."""
        for future in self._pending[index]:
            future.result()
        self._pending[index].clear()

    def _write(self, part: memoryview) -> None:
        self._stream.write(part)
        self._stream.flush()

    def _start_disk(self) -> None:
        """Have the disk take what the page cache holds, unless it is at it."""
        self._unsynced += 1
        if self._unsynced >= _SYNCED_BLOCKS and (self._sync is None or self._sync.done()):
            # A failure shows again when the whole file is synced.
            self._sync = self._syncing.submit(os.fdatasync, self._stream.fileno())
            self._unsynced = 0
