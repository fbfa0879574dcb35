"""Data from outside into frozen pydantic types, and pydantic's complaints into one clear line."""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tvm_vacc.errors import VaccError

T = TypeVar("T")


class RefusedError(ValueError):
    """Raised by validators: a value of the right type that cannot be used.

    Args:
        key: dotted path of the key, from the model whose validator raises.
        message: what is wrong.
        cure: what to do about it.
    """

    def __init__(self, key: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message
        self.cure = cure


def parse(
    adapter: TypeAdapter[T],
    data: Any,
    *,
    where: str,
    error: type[VaccError],
    cure: str = "",
    context: Mapping[str, Any] | None = None,
) -> T:
    """Validate plain data strictly: no coercion, no unknown keys.

    Args:
        adapter: of a type whose configuration is strict, frozen and forbids extra keys.
        data: JSON-like values, as a JSON or YAML parser returns them.
        where: what the error message begins with: the file.
        error: class to raise.
        cure: follows messages that have no cure of their own.
        context: handed to the validators.

    Raises:
        VaccError: of class `error`: file, key path, value and cure of the first problem.
    """
    try:
        # By way of JSON, since strict validation takes a list for a tuple only there.
        document = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise error(f"{where}: holds a value of no plain type ({problem})", cure) from problem
    try:
        return adapter.validate_json(document, context=context)
    except ValidationError as problems:
        found = [dict(problem) for problem in problems.errors(include_url=False)]
        # A misspelt key is both unknown and missing: the first says more.
        first = min(found, key=lambda problem: problem["type"] != "extra_forbidden")
        message, own_cure = _describe(first, adapter)
        raise error(f"{where}: {message}", own_cure or cure) from problems


def _describe(problem: dict[str, Any], adapter: TypeAdapter[Any]) -> tuple[str, str]:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"unknown key {key}", _suggestion(location, adapter.json_schema())
    if kind == "missing":
        return f"the key {key} is missing", f"add {key}"
    refused = problem.get("ctx", {}).get("error")
    if isinstance(refused, RefusedError):
        key = ".".join(part for part in (key, refused.key) if part)
        return f"{key}: {refused.message}", refused.cure
    expected = (
        problem["msg"].replace("Input should be", "must be").replace("an object", "a mapping")
    )
    value = reprlib.repr(problem["input"])
    cure = "put the value in quotes" if kind == "string_type" and value.isalnum() else ""
    return f"{key or 'the document'}: {expected}, got {value}", cure


def _suggestion(location: tuple[int | str, ...], schema: dict[str, Any]) -> str:
    """Name the nearest known key: beside the unknown one first, then anywhere."""
    *parents, wrong = (str(part) for part in location)
    known = list(_keys(schema, schema))
    beside = {path[-1]: path for path in known if list(path[:-1]) == parents}
    for choices in (beside, {path[-1]: path for path in known}):
        near = difflib.get_close_matches(wrong, choices, n=1)
        if near:
            return f"did you mean {'.'.join(choices[near[0]])}?"
    return f"known keys here: {', '.join(beside)}" if beside else "remove it"


def _keys(
    schema: dict[str, Any], root: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key of a JSON schema."""
    for option in (schema, *schema.get("anyOf", ())):
        if "$ref" in option:
            yield from _keys(root["$defs"][option["$ref"].rpartition("/")[2]], root, path)
        for name, value in option.get("properties", {}).items():
            yield (*path, name)
            yield from _keys(value, root, (*path, name))
