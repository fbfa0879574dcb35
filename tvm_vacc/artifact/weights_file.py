"""The weights file: safetensors whose tensors start on whole memory pages, so that it is mapped.

The format (github.com/huggingface/safetensors, "Format") is an 8-byte header length, a JSON header
that may be padded with spaces, and the tensors' bytes with no holes. So the header is padded to a
multiple of `WEIGHT_ALIGNMENT`, and what would be a hole between two tensors is itself a tensor:
uint8, named ``__padding__.N``. Other readers of the format see it and may ignore it;
`mapped_weights.map_weights` leaves it out.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from tvm_vacc.artifact.block_writer import BlockWriter
from tvm_vacc.artifact.weights_journal import WeightsJournal
from tvm_vacc.dtypes import FORMAT_DTYPES, NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import WEIGHT_ALIGNMENT

PADDING_PREFIX: Final = "__padding__."
"""Names of tensors that fill gaps begin so; no weight may."""

_CODES = {dtype.name: code for code, dtype in FORMAT_DTYPES.items()}

HEADER_LENGTH: Final = struct.Struct("<Q")
"""The first bytes of the file: how long the JSON header is."""


class TensorEntry(NamedTuple):
    """A tensor that is to be written.

    Attributes:
        name: of the weight.
        shape: dimensions.
        dtype: a key of `NUMPY_DTYPES`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize


class WeightsWriter:
    """Writes a weights file tensor by tensor, or slice by slice; hashes it while writing.

    A context manager: leaving it without an error checks that every tensor came, and syncs. A
    resumable one leaves behind, when it is interrupted or killed, a file that the next one goes on
    with: `finished` tells how many tensors need not come again (see `weights_journal`). Its journal
    stays when the file is whole, for who moves the file to its place to remove.

    Attributes:
        path: the file.
        sha256: of the whole file in hex, once it is closed; computed while writing.
        nbytes: its size.
        finished: tensors that are in the file.
    """

    def __init__(
        self,
        path: Path,
        entries: Sequence[tuple[str, tuple[int, ...], str]],
        *,
        resumable: bool = False,
    ) -> None:
        """Plan the file.

        Args:
            path: the file, which must not exist, or be of a resumable writer.
            entries: `TensorEntry`, or its three values, in the order in which `append` will bring
                the tensors.
            resumable: go on with what an earlier writer of the same tensors has left.

        Raises:
            ValueError: a name that stands twice or is reserved, an unknown dtype.
        """
        self.path = path
        self.sha256 = ""
        self.finished = 0
        self._entries = [TensorEntry(name, tuple(shape), dtype) for name, shape, dtype in entries]
        self._header, data_bytes = _plan(self._entries)
        self._journal = WeightsJournal(path) if resumable else None
        self._digest = hashlib.sha256()
        self._stream: BinaryIO | None = None
        self._blocks: BlockWriter | None = None
        self._written = 0
        self._rows = 0
        self._resources = ExitStack()
        self.nbytes = len(self._header) + data_bytes

    def __enter__(self) -> WeightsWriter:
        """Open the file and write its header, or find the end of what is in it already.

        Raises:
            ArtifactError: the disk has not the room.
            OSError: the file cannot be made.
        """
        here = self.path.stat().st_size if self._journal and self.path.exists() else 0
        free = shutil.disk_usage(self.path.parent).free + here
        if free < self.nbytes:
            message = f"{self.path}: needs {self.nbytes >> 20} MiB, {free >> 20} MiB are free"
            raise ArtifactError(message, "free some space or choose another disk")
        with ExitStack() as stack:
            stream = self._stream = stack.enter_context(self._open(is_there=here > 0))
            if self._journal is not None:
                self._resume(self._journal)
                stack.callback(self._journal.close)
            blocks = BlockWriter(stream, self._digest, self._written)
            self._blocks = stack.enter_context(blocks)
            if not self._written:
                self._write(self._header)
                self._note()
            self._resources = stack.pop_all()
        return self

    def append(self, name: str, array: np.ndarray) -> None:
        """Write the next tensor, or the next slice of it along its first axis.

        Args:
            name: must be that of the next entry.
            array: of the entry's dtype and of its shape but for the first dimension; any strides.

        Raises:
            ValueError: another tensor is due, or `array` is not as announced.
            OSError: the disk is full.
        """
        due = self._entries[self.finished] if self.finished < len(self._entries) else None
        found = TensorEntry(name, array.shape, array.dtype.name)
        if due is None or not _is_next(found, due, self._rows):
            raise ValueError(f"due is {due}, got {found}")
        if not self._rows:
            self._write(bytes(_round_up(self._written) - self._written))
        native = np.ascontiguousarray(array, NUMPY_DTYPES[found.dtype])
        self._write(native.reshape(-1).view(np.uint8).data)
        self._rows += array.shape[0] if array.ndim else 0
        if not due.shape or self._rows == due.shape[0]:
            self._rows = 0
            self.finished += 1
            self._note()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; without an error check that it is whole, and sync it."""
        assert self._stream is not None
        assert self._blocks is not None
        with self._resources:
            if kind is not None:
                return
            if self.finished < len(self._entries):
                raise ValueError(f"{self._entries[self.finished].name}: was announced, never came")
            self._blocks.close()
            os.fsync(self._stream.fileno())
        self.sha256 = self._digest.hexdigest()

    def _open(self, *, is_there: bool) -> BinaryIO:
        if self._journal is None:
            return self.path.open("xb")
        return self.path.open("r+b") if is_there else self.path.open("w+b")

    def _resume(self, journal: WeightsJournal) -> None:
        """Cut the file behind the last tensor that is whole; empty it where there is none."""
        assert self._stream is not None
        point = journal.resume(self._stream, self._header)
        if point is not None:
            self.finished, self._written, self._digest = point

    def _note(self) -> None:
        if self._journal is not None:
            assert self._blocks is not None
            self._blocks.flush(partial(self._journal.note, self.finished, self._written))

    def _write(self, data: bytes | memoryview) -> None:
        assert self._blocks is not None, "use the writer in a with statement"
        self._blocks.write(data)
        self._written += len(data)


def _is_next(found: TensorEntry, due: TensorEntry, rows: int) -> bool:
    """Whether `found` is a slice of `due` that fits behind its first `rows` rows."""
    if (found.name, found.dtype) != (due.name, due.dtype) or len(found.shape) != len(due.shape):
        return False
    fits = not due.shape or rows + found.shape[0] <= due.shape[0]
    return fits and found.shape[1:] == due.shape[1:]


def _plan(entries: Iterable[TensorEntry]) -> tuple[bytes, int]:
    """Return the header, its length before it, and the size of the data."""
    header: dict[str, object] = {"__metadata__": {"alignment": str(WEIGHT_ALIGNMENT)}}
    end = 0
    for index, entry in enumerate(entries):
        if entry.name in header or entry.name.startswith(PADDING_PREFIX):
            raise ValueError(f"{entry.name!r}: stands twice or is a reserved name")
        start = _round_up(end)
        if start > end:
            header[f"{PADDING_PREFIX}{index}"] = _header_entry("uint8", (start - end,), end, start)
        end = start + entry.nbytes
        header[entry.name] = _header_entry(entry.dtype, entry.shape, start, end)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(_round_up(HEADER_LENGTH.size + len(text)) - HEADER_LENGTH.size)
    return HEADER_LENGTH.pack(len(text)) + text, end


def _header_entry(dtype: str, shape: tuple[int, ...], start: int, end: int) -> dict[str, object]:
    return {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}


def _round_up(size: int) -> int:
    return -(-size // WEIGHT_ALIGNMENT) * WEIGHT_ALIGNMENT
