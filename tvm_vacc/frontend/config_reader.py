"""Typed access to a checkpoint's config.json: each wrong value is one line with file and key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_vacc.errors import CheckpointError
from tvm_vacc.safe_io import read_json_object


@dataclass(frozen=True)
class ConfigReader:
    """One config object and the file it stands in.

    Every method raises CheckpointError when the key is missing or of another type than asked for.
    """

    path: Path
    values: dict[str, Any]

    @classmethod
    def from_file(cls, path: Path) -> ConfigReader:
        """Read the JSON object in `path`."""
        return cls(path, read_json_object(path, error=CheckpointError))

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        return self.values.get(key) is not None

    def integer(self, key: str) -> int:
        """Return the integer under `key`."""
        return self._typed(key, int)

    def number(self, key: str) -> float:
        """Return the integer or real number under `key` as a float."""
        value = self.values.get(key)
        if type(value) is int and abs(value) < 2**53:
            return float(value)
        return self._typed(key, float)

    def boolean(self, key: str) -> bool:
        """Return the truth value under `key`."""
        return self._typed(key, bool)

    def text(self, key: str) -> str:
        """Return the string under `key`."""
        return self._typed(key, str)

    def optional_token(self, key: str) -> int | None:
        """Return the token id under `key`, None when the key is absent or null."""
        return self.integer(key) if self.has(key) else None

    def tokens(self, key: str) -> tuple[int, ...]:
        """Return the token id, or the list of them, under `key`; empty when absent or null."""
        value = self.values.get(key)
        items = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(item) is not int for item in items):
            raise self.fault(key, "a token id or a list of them")
        return tuple(items)

    def section(self, key: str) -> ConfigReader:
        """Return the object under `key`; its keys are then reported as the section's."""
        return ConfigReader(self.path, self._typed(key, dict))

    def require(self, key: str, wanted: tuple[Any, ...], *, absent: Any) -> None:
        """Demand that `key` has one of the `wanted` values; a missing key counts as `absent`.

        For the switches of an architecture that exist in config files, of which the model's code
        here implements one position.
        """
        value = self.values.get(key, absent)
        if not any(value == item and type(value) is type(item) for item in wanted):
            raise self.fault(key, f"{json.dumps(wanted[0])}, the only kind supported")

    def fault(self, key: str, wanted: str) -> CheckpointError:
        """Return the error that `key` is not what is `wanted`."""
        if key not in self.values:
            return CheckpointError(f"{self.path}: the key {key} is missing", f"it must be {wanted}")
        value = json.dumps(self.values[key])[:80]
        return CheckpointError(f"{self.path}: {key} is {value}", f"it must be {wanted}")

    def _typed(self, key: str, kind: type) -> Any:
        value = self.values.get(key)
        if type(value) is not kind:
            raise self.fault(key, _KIND_NAMES[kind])
        return value


_KIND_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "an object",
}
