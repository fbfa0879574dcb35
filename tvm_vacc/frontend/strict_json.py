"""Reads JSON as the format defines it: no duplicate keys, no NaN, and one clear line otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tvm_vacc.errors import CheckpointError
from tvm_vacc.limits import MAX_JSON_BYTES


def parse_json_object(text: bytes, where: Path | str) -> dict[str, Any]:
    """Parse `text`, the UTF-8 JSON object that stands in `where`.

    Raises:
        CheckpointError: no JSON, not an object, a key twice, NaN, or nested beyond all reason.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON ({_short(error)})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: a JSON object is expected, not {type(value).__name__}")
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Read and parse a whole JSON file.

    Raises:
        CheckpointError: as `parse_json_object`; also an unreadable or oversized file.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > MAX_JSON_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_JSON_BYTES} bytes")
    return parse_json_object(text, path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands there twice")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _short(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
