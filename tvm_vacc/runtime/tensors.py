"""NumPy arrays to TVM tensors and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import tvm


def to_tvm(array: np.ndarray) -> tvm.runtime.Tensor:
    """Copy `array` to a tensor of its own; bfloat16 included, which dlpack of NumPy lacks."""
    tensor = tvm.runtime.empty(array.shape, str(array.dtype))
    tensor.copyfrom(np.ascontiguousarray(array))
    return tensor


def to_numpy(tensor: tvm.runtime.Tensor) -> np.ndarray:
    """Copy `tensor` to NumPy, bfloat16 as the type of ml_dtypes."""
    if str(tensor.dtype) == "bfloat16":
        return tensor.numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Arguments:
    """The small tensors that a compiled function takes at every step, written over and over.

    Making a tensor costs more than filling it, and a decode step has eleven of them with the same
    shapes as the step before. The tensors belong to one caller, which reads the function's results
    before it writes the next arguments.
    """

    def __init__(self) -> None:
        self._slots: dict[int, tuple[tvm.runtime.Tensor, np.ndarray]] = {}

    def put(self, arrays: list[np.ndarray]) -> list[tvm.runtime.Tensor]:
        """Return tensors that hold `arrays`, valid until the next call."""
        return [self._put(index, array) for index, array in enumerate(arrays)]

    def _put(self, index: int, array: np.ndarray) -> tvm.runtime.Tensor:
        slot = self._slots.get(index)
        if slot is None or slot[1].shape != array.shape or slot[1].dtype != array.dtype:
            tensor = tvm.runtime.empty(array.shape, str(array.dtype))
            slot = self._slots[index] = (tensor, np.from_dlpack(tensor))
        slot[1][...] = array
        return slot[0]
