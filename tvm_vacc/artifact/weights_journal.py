"""How far a weights file has come, written beside it, so that a killed compile can go on.

The journal ``<file>.journal`` has a line for the header and for each finished tensor: how many
tensors are finished, where the last one ends, and the SHA-256 of the file up to there. The file is
hashed from its start anyway, so these prefixes cost nothing. Nothing in either file is trusted:
resuming hashes the file again and keeps what agrees, at more than a gigabyte a second; whatever is
torn, or was changed, is written again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TextIO

if TYPE_CHECKING:
    from hashlib import _Hash

_LINE = re.compile(r"(\d{1,9}) (\d{1,18}) ([0-9a-f]{64})\n")
_BLOCK_BYTES = 8 << 20


class ResumePoint(NamedTuple):
    """Where to go on.

    Attributes:
        finished: tensors in the file.
        written: its bytes.
        digest: their SHA-256, to be continued.
    """

    finished: int
    written: int
    digest: _Hash


class WeightsJournal:
    """The journal of one weights file."""

    def __init__(self, path: Path) -> None:
        """Name the weights file."""
        self._path = path.with_name(f"{path.name}.journal")
        self._stream: TextIO | None = None

    def resume(self, stream: BinaryIO, header: bytes) -> ResumePoint | None:
        """Cut the weights file behind its last whole tensor, and open the journal.

        Args:
            stream: the weights file, open for reading and writing.
            header: what it must begin with.

        Returns:
            Where to go on; None where nothing can be kept: the file is empty then.

        Raises:
            OSError: a file cannot be read or cut.
        """
        stream.seek(0)
        kept: list[str] = []
        point = None
        if stream.read(len(header)) == header:
            stream.seek(0)
            for line, found in self._agreeing(stream):
                kept.append(line)
                point = found
        end = point.written if point else 0
        stream.truncate(end)
        stream.seek(end)
        self._stream = self._path.open("w", encoding="ascii")
        self._stream.writelines(kept)
        self._stream.flush()
        return point

    def note(self, finished: int, written: int, sha256: str) -> None:
        """Write down that so many tensors are whole, in so many bytes of that hash."""
        assert self._stream is not None
        self._stream.write(f"{finished} {written} {sha256}\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the journal; it stays."""
        assert self._stream is not None
        self._stream.close()

    def _agreeing(self, stream: BinaryIO) -> Iterator[tuple[str, ResumePoint]]:
        """Hash the file up to each line's end; yield the lines until one disagrees."""
        digest = hashlib.sha256()
        position = 0
        for number, line in enumerate(self._lines()):
            match = _LINE.fullmatch(line)
            if match is None or int(match[1]) != number or int(match[2]) < position:
                return
            while position < int(match[2]):
                block = stream.read(min(_BLOCK_BYTES, int(match[2]) - position))
                if not block:
                    return
                digest.update(block)
                position += len(block)
            if digest.hexdigest() != match[3]:
                return
            yield line, ResumePoint(number, position, digest.copy())

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(encoding="ascii").splitlines(keepends=True)
        except (FileNotFoundError, UnicodeError):
            return []
