"""NumPy arrays to TVM tensors and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import ml_dtypes
import numpy as np
import tvm

from tvm_vacc.errors import RequestError


def to_tvm(array: np.ndarray) -> tvm.runtime.Tensor:
    """Copy `array` to a tensor of its own; bfloat16 included, which dlpack of NumPy lacks."""
    tensor = tvm.runtime.empty(array.shape, str(array.dtype))
    tensor.copyfrom(np.asarray(array, order="C"))  # ascontiguousarray gives scalars a dimension
    return tensor


def to_numpy(tensor: tvm.runtime.Tensor) -> np.ndarray:
    """Copy `tensor` to NumPy, bfloat16 as the type of ml_dtypes."""
    if str(tensor.dtype) == "bfloat16":
        return tensor.numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Described(Protocol):
    """What a graph says of a tensor: a text in `shape` names a symbolic dimension."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> Sequence[int | str]:
        """Its dimensions."""
        ...

    @property
    def dtype(self) -> str:
        """Its dtype, as Relax spells it."""
        ...


def require_fit(wanted: Described, dtype: str, shape: Sequence[int], dims: dict[str, int]) -> None:
    """Hold an input's dtype and shape against what the graph takes.

    Args:
        wanted: the graph's input.
        dtype: of what was given.
        shape: of what was given.
        dims: values of symbolic dimensions; those that are met first are added.

    Raises:
        RequestError: it does not fit.
    """
    fits = dtype == wanted.dtype and len(shape) == len(wanted.shape)
    if fits:
        fits = all(
            size == (dims.setdefault(dim, size) if isinstance(dim, str) else dim)
            for size, dim in zip(shape, wanted.shape, strict=True)
        )
    if not fits:
        takes = f"{wanted.dtype}[{', '.join(map(str, wanted.shape))}]"
        raise RequestError(
            f"the input {wanted.name!r} is {dtype}{list(shape)}, it must be {takes}",
            "convert it with astype or reshape",
        )


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
