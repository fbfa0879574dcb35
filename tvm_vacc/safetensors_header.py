"""The header of a safetensors file: which tensors it holds, of which types, at which bytes.

The format (https://huggingface.co/docs/safetensors): eight bytes of header length, little-endian;
that many bytes of JSON; then the tensors' bytes, back to back. Checkpoints and the weights of
artefacts are both such files, and both come from elsewhere: nothing in a header is trusted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tvm_vacc.dtypes import FORMAT_DTYPES
from tvm_vacc.errors import VaccError
from tvm_vacc.limits import MAX_SAFETENSORS_HEADER
from tvm_vacc.safe_io import parse_json_object

_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 32  # NumPy's own limit before version 2


@dataclass(frozen=True)
class HeaderEntry:
    """One tensor of a file.

    Attributes:
        name: of the tensor.
        dtype: a key of `NUMPY_DTYPES`.
        shape: dimensions.
        begin: its first byte in the file.
        end: the byte after its last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class HeaderReader:
    """Reads headers, and refuses in the words of who asks.

    Attributes:
        error: class of the error that is raised.
        cure: of a damaged file.
    """

    error: type[VaccError]
    cure: str

    def read(self, path: Path) -> list[HeaderEntry]:
        """Return the tensors of `path` in the order of their bytes, which fill the file.

        Raises:
            VaccError: an `error`: the file cannot be read, is truncated, has no valid header or
                an oversized one, or offsets that overlap, leave holes, run past the end or
                contradict dtype and shape.
        """
        header, start, size = self._document(path)
        header.pop("__metadata__", None)
        entries = [self._entry(path, name, value, start) for name, value in header.items()]
        entries.sort(key=lambda entry: (entry.begin, entry.end))
        end = start
        for entry in entries:
            if entry.begin != end:
                fault = "overlaps the tensor before it" if entry.begin < end else "leaves a hole"
                raise self.error(f"{path}: {entry.name} {fault}", self.cure)
            end = entry.end
        if end != size:
            fault = "truncated" if end > size else "damaged: longer than its tensors"
            raise self.error(f"{path}: {fault}, {size} bytes instead of {end}", self.cure)
        return entries

    def _document(self, path: Path) -> tuple[dict[str, Any], int, int]:
        """Return the parsed header, the offset of the first tensor byte, and the file's size."""
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
                if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                    raise self.error(f"{path}: truncated, too short for its header", self.cure)
                if length > MAX_SAFETENSORS_HEADER:
                    raise self.error(
                        f"{path}: a header of {length} bytes, at most {MAX_SAFETENSORS_HEADER} "
                        "are read"
                    )
                text = stream.read(length)
        except OSError as problem:
            raise self.error(f"{path}: cannot be read ({problem.strerror})", self.cure) from None
        if not text.startswith(b"{"):
            raise self.error(f"{path}: not a safetensors file", self.cure)
        header = parse_json_object(text, where=str(path), error=self.error, cure=self.cure)
        return header, _LENGTH_BYTES + length, size

    def _entry(self, path: Path, name: str, entry: object, start: int) -> HeaderEntry:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self.error(f"{path}: {name} needs exactly dtype, shape and data_offsets")
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(code, str) or code not in FORMAT_DTYPES:
            raise self.error(
                f"{path}: {name} has dtype {code!r:.40}",
                f"known ones are {', '.join(FORMAT_DTYPES)}",
            )
        if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
            raise self.error(f"{path}: {name} has shape {shape!r:.80}", self.cure)
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise self.error(f"{path}: {name} has data_offsets {offsets!r:.80}", self.cure)
        dtype = FORMAT_DTYPES[code]
        begin, end = offsets
        nbytes = prod(shape) * dtype.itemsize
        if end - begin != nbytes:
            raise self.error(
                f"{path}: {name} takes {end - begin} bytes, {code} {shape!r:.80} needs {nbytes}",
                self.cure,
            )
        return HeaderEntry(name, dtype.name, tuple(shape), start + begin, start + end)


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
