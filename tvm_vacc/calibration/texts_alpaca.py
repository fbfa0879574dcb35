"""Reads alpaca-cleaned as published: a JSON list of instructions with inputs and outputs.

Source: https://huggingface.co/datasets/yahma/alpaca-cleaned, `alpaca_data_cleaned.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tvm_vacc.errors import DatasetError
from tvm_vacc.safe_io import read_json

_KEYS = ("instruction", "input", "output")
_CURE = "give alpaca-cleaned's .json file as published: a list of instruction, input and output"


def read_alpaca(path: Path) -> Iterator[str]:
    """Yield each entry as a text: instruction, input (where there is one) and output, a line each.

    Raises:
        DatasetError: the file is no JSON list, or an entry lacks a key.
    """
    entries = read_json(path, error=DatasetError, cure=_CURE)
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: is no list", _CURE)
    for number, entry in enumerate(entries, start=1):
        fields = [entry.get(key) for key in _KEYS] if isinstance(entry, dict) else [None]
        for key, field in zip(_KEYS, fields, strict=False):
            if not isinstance(field, str):
                raise DatasetError(f"{path}: entry {number} has no text under {key!r}", _CURE)
        yield "\n".join(filter(None, fields))
