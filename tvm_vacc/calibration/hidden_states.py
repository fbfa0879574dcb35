"""The hidden states of all samples: in memory, or in a mapped file where they are large."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tvm_vacc.limits import CALIBRATION_BATCH_TOKENS, CALIBRATION_MEMORY_BYTES

FILE = "hidden.f32"
"""Beside the codes while they are made; gone when they are whole."""


def new_hidden_states(shape: tuple[int, int, int], directory: Path) -> Tensor:
    """Return room for hidden states, fp32.

    Args:
        shape: ``[samples, seqlen, hidden]``.
        directory: for the file that holds them where memory should not.

    Raises:
        OSError: the file cannot be made.
    """
    if 4 * prod(shape) <= CALIBRATION_MEMORY_BYTES:
        return torch.empty(shape)
    mapped = np.memmap(directory / FILE, np.float32, mode="w+", shape=shape)
    return torch.from_numpy(mapped)


def batches(states: Tensor) -> Iterator[Tensor]:
    """Yield `states` ``[samples, seqlen, ...]`` in views of some samples."""
    yield from states.split(max(1, CALIBRATION_BATCH_TOKENS // states.shape[1]))
