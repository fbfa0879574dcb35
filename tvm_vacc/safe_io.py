"""Reading files that a user or a download brought: bounded, strict, one clear line when refused.

Every function takes the error class to raise, so that the same damage is a `ConfigError` in a
config and an `ArtifactError` in an artefact.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_vacc.errors import VaccError
from tvm_vacc.limits import MAX_JSON_BYTES

_BLOCK_BYTES = 8 << 20


def read_bytes(path: Path, *, limit: int, error: type[VaccError], cure: str = "") -> bytes:
    """Read a regular file whole.

    Args:
        path: the file; a directory, a pipe or a device is refused.
        limit: largest size accepted, in bytes.
        error: class to raise.
        cure: what the user can do about a missing or unreadable file.

    Raises:
        VaccError: of class `error`, naming `path`.
    """
    try:
        if path.is_dir():
            raise error(f"{path}: is a directory, a file is expected", cure)
        if not path.is_file():  # a pipe or a device would block the read
            raise error(f"{path}: no such file", cure)
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as problem:  # ValueError: a null character in the path
        raise error(f"{path!s}: cannot be read ({_reason(problem)})", cure) from problem
    if len(data) > limit:
        raise error(f"{path}: larger than {limit} bytes, which is too large for such a file", cure)
    return data


def read_text(path: Path, *, limit: int, error: type[VaccError], cure: str = "") -> str:
    """Read a UTF-8 file whole; a byte order mark is dropped. Arguments and errors: `read_bytes`."""
    data = read_bytes(path, limit=limit, error=error, cure=cure)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}: line {line}: not UTF-8 text", cure) from problem


def read_json(
    path: Path, *, limit: int = MAX_JSON_BYTES, error: type[VaccError], cure: str = ""
) -> Any:
    """Read a JSON file whole. Arguments and errors: `read_bytes`, and those of `parse_json`."""
    text = read_text(path, limit=limit, error=error, cure=cure)
    return parse_json(text, where=str(path), error=error, cure=cure)


def read_json_object(path: Path, *, error: type[VaccError], cure: str = "") -> dict[str, Any]:
    """Read a JSON file that holds one object. Errors: `read_json`; also any other value."""
    return _object(read_json(path, error=error, cure=cure), str(path), error, cure)


def parse_json_object(
    text: str | bytes, *, where: str, error: type[VaccError], cure: str = ""
) -> dict[str, Any]:
    """Parse strict JSON that is one object. Errors: `parse_json`; also any other value."""
    return _object(parse_json(text, where=where, error=error, cure=cure), where, error, cure)


def parse_json(text: str | bytes, *, where: str, error: type[VaccError], cure: str = "") -> Any:
    """Parse strict JSON: no duplicate keys, no NaN or Infinity, no lone surrogates.

    Args:
        text: the document; bytes must be UTF-8.
        where: what the error message begins with.
        error: class to raise.
        cure: what the user can do about it.

    Raises:
        VaccError: of class `error`, naming `where` and the line.
    """
    try:
        document = json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
        )
        json.dumps(document, ensure_ascii=False).encode()  # lone surrogates cannot be printed
    except json.JSONDecodeError as problem:
        message = f"{where}: line {problem.lineno}: not valid JSON ({problem.msg})"
        raise error(message, cure) from problem
    except UnicodeError as problem:
        raise error(f"{where}: not UTF-8 text", cure) from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not valid JSON ({problem})", cure) from problem
    return document


def inside(
    root: Path,
    name: str,
    *,
    error: type[VaccError],
    where: str = "",
    cure: str = "",
    follow_links: bool = False,
) -> Path:
    """Return ``root / name`` when that lies in `root`; the file need not exist.

    Args:
        root: the directory that must not be left.
        name: a relative path with forward slashes, as a manifest or an index file gives it.
        error: class to raise.
        where: the file that gave `name`, for the message.
        cure: what the user can do about it.
        follow_links: accept symbolic links that lead out of `root`. The name itself may still not
            leave it. For directories that are the user's own: Hugging Face's cache is such links.

    Raises:
        VaccError: of class `error`, when the name is absolute, empty, climbs by ``..``, or leads
            out through a symbolic link.
    """
    where = where or str(root)
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise error(f"{where}: the file name {name!r} is not a plain path below {root}", cure)
    path = root.joinpath(*parts)
    try:
        escaped = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as problem:  # RuntimeError: a loop of links
        raise error(f"{where}: the file name {name!r} cannot be resolved", cure) from problem
    if escaped and not follow_links:
        raise error(f"{where}: the file {name!r} is a link that leads out of {root}", cure)
    return path


def sha256_file(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file in hex, read in blocks.

    Args:
        path: the file.
        progress: called with the number of bytes just read.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
            if progress is not None:
                progress(count)
    return digest.hexdigest()


def fsync_directory(path: Path) -> None:
    """Make the directory's entries durable; the files themselves are synced by who wrote them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _object(value: Any, where: str, error: type[VaccError], cure: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise error(f"{where}: a JSON object is expected, not {type(value).__name__}", cure)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
