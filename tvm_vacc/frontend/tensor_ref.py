"""Where a tensor's bytes lie on disk: what the compiler knows of a weight without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype(np.int64),
    "int32": np.dtype(np.int32),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
}
"""Names as Relax spells them; NumPy knows bfloat16 through ml_dtypes."""


@dataclass(frozen=True)
class TensorRef:
    """A row-major tensor in a file.

    Attributes:
        name: the tensor's name in the model (Hugging Face `glm` names for both layouts).
        file: the file that holds the bytes.
        offset: of the first byte in `file`.
        shape: dimensions.
        dtype: a key of `DTYPES`.
    """

    name: str
    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize

    def read(self) -> np.ndarray:
        """Read the tensor: a copy, so that no mapping outlives the call."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read(self.nbytes)
        return np.frombuffer(data, DTYPES[self.dtype]).reshape(self.shape)
