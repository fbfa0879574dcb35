"""A matrix that a checkpoint stores as codes and scales, and what our kernels demand of it.

Codes are symmetric, of 8 bits with one scale an output channel or
of 4 bits with one scale a group of 32, 64 or 128 inputs. They are read straight from the
checkpoint into the kernels' layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef

GROUPS = (128, 64, 32)
"""Inputs a scale that the kernels know for 4 bits, the cheapest first."""

SCALE_DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class StoredCodes:
    """A matrix that is stored as codes and scales.

    Attributes:
        codes: ``[out, in]`` int8, by the matrix' own name.
        scales: ``[out, groups]`` float, or ``[groups, out]`` where `transposed`; with one column
            they serve all groups.
        transposed: whether the scales are stored the other way round.
        bits: of a code.
        group_size: inputs that share a scale; all of them with 8 bits.
    """

    codes: TensorRef
    scales: TensorRef
    transposed: bool
    bits: Literal[4, 8]
    group_size: int

    @property
    def name(self) -> str:
        """The matrix' name."""
        return self.codes.name

    def in_files(self, files: Mapping[Path, Path]) -> StoredCodes:
        """Return the same codes and scales, read by way of other names of their files."""
        codes = replace(self.codes, file=files[self.codes.file])
        scales = replace(self.scales, file=files[self.scales.file])
        return replace(self, codes=codes, scales=scales)

    def read(self) -> np.ndarray:
        """Return the matrix ``[out, in]`` fp32: codes times scales."""
        codes = self.codes.read()
        scales = self.scales.read().astype(np.float32)
        scales = scales.T if self.transposed else scales
        if scales.shape[1] == 1:
            return codes * scales
        return codes * np.repeat(scales, self.group_size, axis=1)


def group_size_of(bits: int, in_features: int, stored: int, where: str) -> int:
    """Return the inputs that share a scale in the kernels.

    Args:
        bits: 4 or 8.
        in_features: inputs of the matrix.
        stored: inputs a scale in the checkpoint; -1 or `in_features`: all of them.
        where: file and name of the matrix.

    Raises:
        CheckpointError: the kernels have no such groups.
    """
    whole = stored in (-1, in_features)
    if bits == 8 and whole:
        return in_features
    if bits == 8:
        raise CheckpointError(
            f"{where} has 8-bit codes with a scale for each {stored} inputs",
            "8 bits need one scale an output channel: quantise with group_size -1, or to 4 bits",
        )
    fits = [size for size in GROUPS if in_features % size == 0 and (whole or size == stored)]
    if not fits:
        raise CheckpointError(
            f"{where} has {in_features} inputs with a scale for each {stored}",
            "4 bits need groups of 32, 64 or 128 that fill the inputs: quantise again",
        )
    return fits[0]


def demand(ref: TensorRef, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> None:
    """Refuse a tensor of another shape or dtype.

    Raises:
        CheckpointError: names the file and the tensor.
    """
    if ref.shape != shape or ref.dtype not in dtypes:
        raise CheckpointError(
            f"{ref.file}: {ref.name} is {ref.dtype} {list(ref.shape)}, config.json demands "
            f"{' or '.join(dtypes)} {list(shape)}",
            "the files belong to another config.json, or are damaged",
        )


def demand_order(ref: TensorRef, group_size: int) -> None:
    """Refuse groups of inputs that do not lie side by side (GPTQ's act-order).

    Args:
        ref: ``[in]`` int32: the group of each input; all -1: never written.
        group_size: inputs a group.

    Raises:
        CheckpointError: names the file and the tensor.
    """
    groups = ref.read()
    in_order = np.arange(groups.size) // group_size
    if not (np.array_equal(groups, in_order) or (groups == -1).all()):
        raise CheckpointError(
            f"{ref.file}: {ref.name} scatters the inputs of a group (act-order, desc_act)",
            "quantise with desc_act: false, or with static groups",
        )
