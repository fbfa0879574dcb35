"""Keys: all that a piece of an artefact is made of, by name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tvm_vacc.artifact.manifest import installed_versions
from tvm_vacc.frontend.tensor_ref import TensorRef

_SAMPLE_BYTES = 4096
_SOURCES = ("relay_passes", "schedules", "tvm_vacc")
_NO_PART = ("artifact", "machine", "runtime", "serve", "tvmc")
"""Packages in `tvm_vacc` that have no part in what the cached pieces hold."""


@dataclass(frozen=True)
class Key:
    """What a piece is made of.

    Attributes:
        parts: names and values; a piece may be reused where all of them are equal.
        behind: of parts that are hashes of something made before, by their names: the parts that it
            was made of. They decide nothing, and explain why such a hash is another one.
    """

    parts: Mapping[str, str]
    behind: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the parts, in hex."""
        text = json.dumps(dict(self.parts), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def told(self) -> dict[str, str]:
        """All that explanations compare with the last compile."""
        causes = {name: value for parts in self.behind.values() for name, value in parts.items()}
        return causes | dict(self.parts)


def digest_of(value: object) -> str:
    """Return a short hash of a JSON-like value, for the part of a key."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def tool_parts(*distributions: str) -> dict[str, str]:
    """Return the versions of what makes a piece: our sources, and other distributions.

    All our sources count as one, so that no dependency between them can be overlooked.
    """
    digest = hashlib.sha256()
    for package in _SOURCES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        root = Path(spec.origin).parent
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root)
            if package != "tvm_vacc" or name.parts[0] not in _NO_PART:
                digest.update(f"{package}/{name.as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return {"tvm_vacc sources": digest.hexdigest()[:16], **installed_versions(*distributions)}


def tensor_parts(refs: Mapping[str, TensorRef]) -> dict[str, str]:
    """Return what tells the content of tensors that are not read for it.

    Their files by size, inode and time of change; and, since archives and images may bring equal
    times, a page out of the middle of each tensor.

    Raises:
        OSError: a file cannot be read.
    """
    files = {str(ref.file): file_identity(ref.file) for ref in refs.values()}
    parts = {f"file {Path(file).name}": identity for file, identity in sorted(files.items())}
    for name, ref in refs.items():
        with ref.file.open("rb", buffering=0) as stream:
            middle = ref.offset + max(0, ref.nbytes - _SAMPLE_BYTES) // 2
            sample = os.pread(stream.fileno(), min(_SAMPLE_BYTES, ref.nbytes), middle)
        content = hashlib.sha256(sample).hexdigest()[:16]
        where = f"{ref.file.name}+{ref.offset}"
        parts[f"tensor {name}"] = f"{ref.dtype} {list(ref.shape)} at {where}, sample {content}"
    return parts


def file_identity(path: Path) -> str:
    """Return what tells one content of a file from another, without reading it."""
    status = path.stat()
    return f"{status.st_size} bytes, inode {status.st_ino}, changed at {status.st_mtime_ns} ns"
