"""Makes one weight of the artefact of one tensor of the model."""

from __future__ import annotations

import numpy as np

from relay_passes.weight_plan import LINEAR, PackedWeight
from schedules.linear_float import pack_linear_weight
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef


def pack_weight(weight: PackedWeight, source: TensorRef) -> np.ndarray:
    """Read `source` and return it in the dtype and layout of `weight`.

    Raises:
        CheckpointError: a value does not fit the range of fp16.
    """
    array = source.read()
    if weight.dtype == "float16" and source.dtype != "float16":
        _check_fp16_range(array, source)
    if weight.layout == LINEAR:
        return pack_linear_weight(array.T if weight.transposed else array, weight.dtype)
    return array.astype(NUMPY_DTYPES[weight.dtype], copy=False)


def _check_fp16_range(array: np.ndarray, source: TensorRef) -> None:
    limit = float(np.finfo(np.float16).max)
    largest = float(np.max(np.abs(array), initial=0))
    if largest > limit:
        raise CheckpointError(
            f"{source.file}: {source.name} holds {largest:g}, fp16 ends at {limit:g}",
            "compile with backend.dtype: bf16",
        )
