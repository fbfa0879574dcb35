"""The dtypes of stored tensors: the safetensors codes, NumPy's types, the names of both."""

from __future__ import annotations

from typing import Final

import ml_dtypes
import numpy as np

FORMAT_DTYPES: Final[dict[str, np.dtype]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
}
"""What a safetensors file of ours or of a checkpoint can hold, by the format's codes."""

NUMPY_DTYPES: Final = {dtype.name: dtype for dtype in FORMAT_DTYPES.values()}
"""The same by the names that Relax and NumPy share."""
