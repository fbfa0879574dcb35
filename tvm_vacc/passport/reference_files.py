"""The reference's hidden states and logits on the yardstick, as files that are read by and by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

LOGITS: Final = "logits.npy"
"""Of every token, ``[tokens, vocab]`` fp32."""


def hidden_file(layer: int) -> str:
    """Return the name of the file of the states after a layer, ``[tokens, hidden]`` fp32."""
    return f"hidden.{layer:04}.npy"


@dataclass(frozen=True)
class ReferenceFiles:
    """Mapped, not read.

    Attributes:
        hidden: the states after each layer, ``[tokens, hidden]`` fp32.
        logits: of every token, ``[tokens, vocab]`` fp32.
    """

    hidden: tuple[np.ndarray, ...]
    logits: np.ndarray

    @classmethod
    def open(cls, directory: Path, layers: int) -> ReferenceFiles:
        """Map the files in `directory`."""
        return cls(
            tuple(map_array(directory / hidden_file(layer)) for layer in range(layers)),
            map_array(directory / LOGITS),
        )


def ranges_file(layer: int) -> str:
    """Return the name of the file of a layer's largest key and value, ``[2]`` fp32.

    Of a pair that turns with the position its norm counts: the largest that any position makes.
    """
    return f"ranges.{layer:04}.npy"


def read_ranges(directory: Path, layers: int) -> np.ndarray:
    """Return the largest key and value of every layer, ``[layers, 2]`` fp32."""
    return np.stack([map_array(directory / ranges_file(layer)) for layer in range(layers)])


def map_array(path: Path) -> np.ndarray:
    """Map an .npy file read-only."""
    found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an .npy file whole or not at all: what is there after a kill is finished."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
    os.replace(partial, path)
