"""Writes the codes of a layer, whole or not at all, and reads them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.calibration.codes_record import CODES_SUFFIX, SCALES_SUFFIX, CodesRecord, record_json
from tvm_vacc.safe_io import fsync_directory, sha256_file


class Codes(NamedTuple):
    """A quantised weight.

    Attributes:
        codes: ``[out, in]`` int8.
        scales: ``[out, groups]`` fp32.
    """

    codes: Tensor
    scales: Tensor


def write_codes(
    directory: Path, name: str, made: Mapping[str, Codes], weights: tuple[CalibratedWeight, ...]
) -> None:
    """Write codes by the names of their weights; they survive a kill and a loss of power.

    Raises:
        OSError: the files cannot be written.
    """
    tensors = {
        weight + CODES_SUFFIX: codes.codes.cpu().contiguous() for weight, codes in made.items()
    }
    tensors |= {
        weight + SCALES_SUFFIX: codes.scales.cpu().contiguous() for weight, codes in made.items()
    }
    path = directory / f"{name}.safetensors"
    _replace(path, lambda partial: save_file(tensors, partial))
    record = CodesRecord(FileEntry(sha256_file(path), path.stat().st_size), weights)
    text = record_json(record)
    _replace(directory / f"{name}.json", lambda partial: partial.write_bytes(text))


def read_codes(directory: Path, name: str) -> dict[str, Codes]:
    """Return what `write_codes` has written."""
    tensors = load_file(directory / f"{name}.safetensors")
    weights = [key.removesuffix(CODES_SUFFIX) for key in tensors if key.endswith(CODES_SUFFIX)]
    return {
        weight: Codes(tensors[weight + CODES_SUFFIX], tensors[weight + SCALES_SUFFIX])
        for weight in weights
    }


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, path)
    fsync_directory(path.parent)
