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
