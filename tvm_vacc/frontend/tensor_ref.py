"""Where a tensor's bytes lie on disk: what the compiler knows of a weight without loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.packed_codes import WORD_BYTES, Packing


@dataclass(frozen=True)
class TensorRef:
    """A row-major tensor in a file.

    Attributes:
        name: the tensor's name in the model (Hugging Face `glm` names for both layouts).
        file: the file that holds the bytes.
        offset: of the first byte in `file`.
        shape: dimensions.
        dtype: a key of `NUMPY_DTYPES`.
        packing: of int8 codes ``[out, in]`` that stand in words; None: the bytes are the values.
    """

    name: str
    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str
    packing: Packing | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        if self.packing is not None:
            return prod(self.packing.word_shape(self.shape)) * WORD_BYTES
        return prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize

    def rows(self, start: int, stop: int) -> TensorRef:
        """Return the rows `start` to `stop` of the first axis: they are contiguous.

        Rows of codes whose words are transposed are not.
        """
        assert self.packing is None or not self.packing.transposed, self.name
        stop = min(stop, self.shape[0])
        row_bytes = self.nbytes // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return replace(self, offset=self.offset + start * row_bytes, shape=shape)

    def read(self) -> np.ndarray:
        """Read the tensor: a copy, so that no mapping outlives the call.

        Raises:
            CheckpointError: the file has become shorter.
        """
        data = np.empty(self.nbytes, np.uint8)
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            count = stream.readinto(data.data)
        if count < self.nbytes:
            raise CheckpointError(
                f"{self.file}: ends within {self.name}, it was changed meanwhile", "compile again"
            )
        if self.packing is not None:
            return self.packing.unpack(data, self.shape)
        return data.view(NUMPY_DTYPES[self.dtype]).reshape(self.shape)
