"""Where a tensor's bytes lie on disk: what the compiler knows of a weight without loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from tvm_vacc.dtypes import NUMPY_DTYPES


@dataclass(frozen=True)
class TensorRef:
    """A row-major tensor in a file.

    Attributes:
        name: the tensor's name in the model (Hugging Face `glm` names for both layouts).
        file: the file that holds the bytes.
        offset: of the first byte in `file`.
        shape: dimensions.
        dtype: a key of `NUMPY_DTYPES`.
    """

    name: str
    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> TensorRef:
        """Return the rows `start` to `stop` of the first axis: they are contiguous."""
        stop = min(stop, self.shape[0])
        row_bytes = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return replace(self, offset=self.offset + start * row_bytes, shape=shape)

    def read(self) -> np.ndarray:
        """Read the tensor: a copy, so that no mapping outlives the call."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.nbytes)
        return np.frombuffer(data, NUMPY_DTYPES[self.dtype]).reshape(self.shape)
