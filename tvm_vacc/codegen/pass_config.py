"""Keys of `tvm.transform.PassContext` as texts: ``name=value``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from tvm_vacc.errors import ConfigError

_BOOLS = {"true": True, "1": True, "false": False, "0": False}
_NUMBERS = {"int", "ir.IntImm"}
"""As TVM 0.27 names the types of keys; ``bool`` and ``ffi.String`` beside them."""


def parse_pass_config(texts: Sequence[str]) -> dict[str, Any]:
    """Return the ``config`` of a pass context.

    Args:
        texts: ``name=value`` each, such as ``tirx.disable_vectorize=true``.

    Raises:
        ConfigError: no such form, an unknown key (all valid ones are listed), a key whose value
            is no text, number or truth value, or a value that does not fit the key.
    """
    import tvm

    kinds = {
        str(name): str(info["type"])
        for name, info in tvm.transform.PassContext.list_configs().items()
    }
    readable = sorted(name for name, kind in kinds.items() if kind in _READERS)
    config: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise ConfigError(f"pass config {text!r}: is no name=value", _EXAMPLE)
        if name not in kinds:
            near = difflib.get_close_matches(name, readable, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"pass config {name}: TVM has no such key", f"{hint}valid: {', '.join(readable)}"
            )
        if kinds[name] not in _READERS:
            raise ConfigError(
                f"pass config {name}: is a {kinds[name]}, which no text can give",
                f"valid: {', '.join(readable)}",
            )
        if name in config:
            raise ConfigError(f"pass config {name}: is given twice", "give it once")
        config[name] = _READERS[kinds[name]](name, value)
    return config


def _bool(name: str, value: str) -> bool:
    if value.lower() not in _BOOLS:
        raise ConfigError(f"pass config {name}: is {value!r}", "give true or false")
    return _BOOLS[value.lower()]


def _int(name: str, value: str) -> int:
    if value.lower() in ("true", "false"):  # TVM had no other word for truth values before 0.20
        return int(_BOOLS[value.lower()])
    if not (value.removeprefix("-").isdigit() and value.isascii()):
        raise ConfigError(f"pass config {name}: is {value!r}", "give a whole number")
    return int(value)


_EXAMPLE = "write for instance tirx.disable_vectorize=true"
_READERS: dict[str, Callable[[str, str], Any]] = {
    "bool": _bool,
    "ffi.String": lambda _name, value: value,
    **dict.fromkeys(_NUMBERS, _int),
}
