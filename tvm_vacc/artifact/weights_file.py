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
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple

import numpy as np

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
    """Writes a weights file tensor by tensor; one tensor is in memory at a time.

    A context manager: leaving it without an error checks that every tensor came, and syncs.

    Attributes:
        path: the file.
        sha256: of the whole file in hex, once it is closed; computed while writing.
        nbytes: its size.
    """

    def __init__(
        self,
        path: Path,
        entries: Sequence[tuple[str, tuple[int, ...], str]],
        on_close: Callable[[WeightsWriter], None] | None = None,
    ) -> None:
        """Plan the file.

        Args:
            path: the file, which must not exist.
            entries: `TensorEntry`, or its three values, in the order in which `append` will bring
                the tensors.
            on_close: called when the file is whole.

        Raises:
            ValueError: a name that stands twice or is reserved, an unknown dtype.
        """
        self.path = path
        self.sha256 = ""
        self._on_close = on_close
        self._due = deque(TensorEntry(name, tuple(shape), dtype) for name, shape, dtype in entries)
        self._header, data_bytes = _plan(self._due)
        self._digest = hashlib.sha256()
        self._stream: BinaryIO | None = None
        self._written = 0
        self.nbytes = len(self._header) + data_bytes

    def __enter__(self) -> WeightsWriter:
        """Open the file and write its header.

        Raises:
            ArtifactError: the disk has not the room.
            OSError: the file cannot be made.
        """
        free = shutil.disk_usage(self.path.parent).free
        if free < self.nbytes:
            message = f"{self.path}: needs {self.nbytes >> 20} MiB, {free >> 20} MiB are free"
            raise ArtifactError(message, "free some space or choose another disk")
        self._stream = self.path.open("xb")
        self._write(self._header)
        return self

    def append(self, name: str, array: np.ndarray) -> None:
        """Write the next tensor.

        Args:
            name: must be that of the next entry.
            array: of the entry's shape and dtype; any strides.

        Raises:
            ValueError: another tensor is due, or `array` is not as announced.
            OSError: the disk is full.
        """
        found = TensorEntry(name, array.shape, array.dtype.name)
        due = self._due[0] if self._due else None
        if found != due:
            raise ValueError(f"due is {due}, got {found}")
        self._due.popleft()
        self._write(bytes(_round_up(self._written) - self._written))
        native = np.ascontiguousarray(array, NUMPY_DTYPES[found.dtype])
        self._write(native.reshape(-1).view(np.uint8).data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; without an error check that it is whole, and sync it."""
        assert self._stream is not None
        with self._stream as stream:
            if kind is not None:
                return
            if self._due:
                raise ValueError(f"{self._due[0].name}: was announced and never came")
            stream.flush()
            os.fsync(stream.fileno())
        self.sha256 = self._digest.hexdigest()
        if self._on_close is not None:
            self._on_close(self)

    def _write(self, data: bytes | memoryview) -> None:
        assert self._stream is not None, "use the writer in a with statement"
        self._digest.update(data)
        self._stream.write(data)
        self._written += len(data)


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
