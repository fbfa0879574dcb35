"""Maps a weights file into memory: nothing is read before a kernel touches it."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_vacc.artifact.manifest import COMPILE_AGAIN, Manifest
from tvm_vacc.artifact.weights_file import PADDING_PREFIX
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import WEIGHT_ALIGNMENT
from tvm_vacc.safetensors_header import HeaderReader


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
    entries = HeaderReader(ArtifactError, COMPILE_AGAIN).read(path)
    try:
        with path.open("rb") as stream:
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path}: cannot be mapped ({problem})", COMPILE_AGAIN) from problem
    _advise(mapping)
    data = np.frombuffer(mapping, np.uint8)
    tensors = {}
    for entry in entries:
        if entry.name.startswith(PADDING_PREFIX):
            continue
        if entry.begin % WEIGHT_ALIGNMENT:
            message = f"{entry.name}: starts at byte {entry.begin}, no multiple of"
            raise ArtifactError(f"{path}: {message} {WEIGHT_ALIGNMENT}", COMPILE_AGAIN)
        if entry.end > len(data):
            raise ArtifactError(f"{path}: was truncated while it was read", COMPILE_AGAIN)
        tensors[entry.name] = MappedTensor(
            entry.name, entry.shape, entry.dtype, entry.begin, data[entry.begin : entry.end]
        )
    return tensors


def map_parameters(directory: Path, manifest: Manifest) -> list[MappedTensor]:
    """Map the weights of an artefact, in the order in which its functions take them.

    Raises:
        ArtifactError: one is missing, or see `map_weights`.
    """
    tensors = {
        name: tensor
        for file in manifest.weights
        for name, tensor in map_weights(directory / file).items()
    }
    missing = [name for name in manifest.parameters if name not in tensors]
    if missing:
        raise ArtifactError(f"{directory}: the weight {missing[0]} is missing", COMPILE_AGAIN)
    return [tensors[name] for name in manifest.parameters]


def _advise(mapping: mmap.mmap) -> None:
    """Ask for large pages where files have them, and for the file to be read ahead."""
    for advice in ("MADV_HUGEPAGE", "MADV_WILLNEED"):
        if hasattr(mmap, advice):
            with suppress(OSError):  # advice: a kernel may know none for files
                mapping.madvise(getattr(mmap, advice))
