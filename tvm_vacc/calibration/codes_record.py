"""What is written beside the codes of a layer: their hash, and the errors of its linears.

    layer.0003.safetensors   <weight>.codes [out, in] int8, <weight>.scales [out, groups] fp32
    layer.0003.json          the record

The record is written last: a layer is finished when it is there and the hash agrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.safe_io import sha256_file

CODES_SUFFIX = ".codes"
SCALES_SUFFIX = ".scales"
"""What stands behind a weight's name in the names of its codes and of its scales."""


@dataclass(frozen=True)
class CodesRecord:
    """What is known of the codes of a layer.

    Attributes:
        file: their file.
        weights: the linears in it.
    """

    file: FileEntry
    weights: tuple[CalibratedWeight, ...]


_RECORD = TypeAdapter(CodesRecord)


def codes_names(layers: int, *, head: bool) -> Iterator[str]:
    """Yield what the files are called, but for their suffix: the layers', then the head's."""
    yield from (f"layer.{index:04}" for index in range(layers))
    if head:
        yield "head"


def read_record(directory: Path, name: str) -> CodesRecord | None:
    """Return the record of codes that are whole, else None."""
    try:
        record = _RECORD.validate_json((directory / f"{name}.json").read_bytes())
        codes = directory / f"{name}.safetensors"
        is_whole = codes.stat().st_size == record.file.bytes
        return record if is_whole and sha256_file(codes) == record.file.sha256 else None
    except (OSError, ValidationError):
        return None


def record_json(record: CodesRecord) -> bytes:
    """Return what is written for `read_record`."""
    return _RECORD.dump_json(record)
