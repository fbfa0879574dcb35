"""Maps a weights file into memory: nothing is read before a kernel touches it."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tvm_vacc.artifact.manifest import COMPILE_AGAIN
from tvm_vacc.artifact.weights_file import (
    HEADER_LENGTH,
    PADDING_PREFIX,
)
from tvm_vacc.dtypes import FORMAT_DTYPES, NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import MAX_SAFETENSORS_HEADER, WEIGHT_ALIGNMENT
from tvm_vacc.safe_io import parse_json

_MAX_DIMENSIONS = 32  # NumPy's own limit before version 2


@dataclass(frozen=True, eq=False)
class MappedTensor:
    """A tensor in a mapped file; the mapping lives as long as any tensor or view of it.

    Attributes:
        name: of the weight.
        shape: dimensions.
        dtype: a key of `NUMPY_DTYPES`.
        offset: of the first byte in the file; a multiple of `WEIGHT_ALIGNMENT`.
        data: its bytes in the mapping, uint8, read-only.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    data: np.ndarray

    def numpy(self) -> np.ndarray:
        """Return a read-only view: no copy."""
        return self.data.view(NUMPY_DTYPES[self.dtype]).reshape(self.shape)

    def to_tvm(self) -> Any:
        """Return a `tvm.runtime.Tensor` on the mapping: no copy, `byte_offset` 0.

        A kernel that writes to it ends the process: the pages are read-only.
        """
        import tvm

        # The slice comes before the view, since kernels demand a byte_offset of 0, which
        # `_create_view` with an offset does not give.
        flat = tvm.runtime.from_dlpack(np.asarray(_Exportable(self.data)))
        return flat._create_view(self.shape, self.dtype)


class _Exportable:
    """Lets DLPack take a read-only array: its older versions have no word for read-only.

    A private writable mapping would be taken as it is, but the kernel counts one against the
    machine's memory: a file larger than that could not be mapped.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._owner = array
        address, _read_only = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def map_weights(path: Path) -> dict[str, MappedTensor]:
    """Map a file that `WeightsWriter` wrote. Only the header is read, and checked strictly.

    Args:
        path: the file. It may be replaced or removed while it is mapped, not shortened.

    Returns:
        The tensors by name, in the order of the file; padding left out.

    Raises:
        ArtifactError: the file is missing, truncated, or its header is not what the format and
            the alignment demand.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            if size < HEADER_LENGTH.size:
                raise ArtifactError(f"{path}: truncated: {size} bytes", COMPILE_AGAIN)
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path}: cannot be mapped ({problem})", COMPILE_AGAIN) from problem
    _advise(mapping)
    data = np.frombuffer(mapping, np.uint8)
    (header_bytes,) = HEADER_LENGTH.unpack(data[: HEADER_LENGTH.size].tobytes())
    start = HEADER_LENGTH.size + header_bytes
    if header_bytes > MAX_SAFETENSORS_HEADER or start > size:
        message = f"{path}: truncated, or no safetensors file: a header of {header_bytes} bytes"
        raise ArtifactError(message, COMPILE_AGAIN)
    header = data[HEADER_LENGTH.size : start].tobytes()
    document = parse_json(header, where=str(path), error=ArtifactError, cure=COMPILE_AGAIN)
    tensors = _check_header(document, path, data, start)
    return {t.name: t for t in tensors if not t.name.startswith(PADDING_PREFIX)}


def _check_header(document: Any, path: Path, data: np.ndarray, start: int) -> list[MappedTensor]:
    """Check that the tensors stand one after the other, to the file's end, weights aligned."""
    if not isinstance(document, dict):
        raise ArtifactError(f"{path}: its header is no JSON object", COMPILE_AGAIN)
    tensors, end = [], start
    for name, entry in document.items():
        if name == "__metadata__":
            continue
        shape, dtype = _shape_and_dtype(name, entry, path)
        nbytes = prod(shape) * NUMPY_DTYPES[dtype].itemsize
        if entry["data_offsets"] != [end - start, end - start + nbytes]:
            message = f"{path}: {name}: data_offsets {entry['data_offsets']!r:.60} do not fit"
            raise ArtifactError(message, COMPILE_AGAIN)
        if end % WEIGHT_ALIGNMENT and not name.startswith(PADDING_PREFIX):
            message = f"{path}: {name}: starts at byte {end}, no multiple of {WEIGHT_ALIGNMENT}"
            raise ArtifactError(message, COMPILE_AGAIN)
        tensors.append(MappedTensor(name, shape, dtype, end, data[end : end + nbytes]))
        end += nbytes
    if end != len(data):
        message = f"{path}: truncated or damaged: {len(data)} bytes, its header tells of {end}"
        raise ArtifactError(message, COMPILE_AGAIN)
    return tensors


def _shape_and_dtype(name: str, entry: Any, path: Path) -> tuple[tuple[int, ...], str]:
    if isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}:
        shape, code = entry["shape"], entry["dtype"]
        shape_fits = (
            isinstance(shape, list)
            and len(shape) <= _MAX_DIMENSIONS
            and all(type(dim) is int and dim >= 0 for dim in shape)
        )
        if shape_fits and isinstance(code, str) and code in FORMAT_DTYPES:
            return tuple(shape), FORMAT_DTYPES[code].name
    raise ArtifactError(f"{path}: {name}: bad header entry {entry!r:.80}", COMPILE_AGAIN)


def _advise(mapping: mmap.mmap) -> None:
    """Ask for large pages where files have them, and for the file to be read ahead."""
    for advice in ("MADV_HUGEPAGE", "MADV_WILLNEED"):
        if hasattr(mmap, advice):
            with suppress(OSError):  # advice: a kernel may know none for files
                mapping.madvise(getattr(mmap, advice))
