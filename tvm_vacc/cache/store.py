"""Keeps pieces of artefacts beside them, so that the next compile makes only what has changed.

    .tvm_vacc_cache/
      graph/<key>/      model.onnx
      passes/<key>/     build.json: what the passes have found, how the weights are made
      kernels/<key>/    model.so, reports.json
      weights/<key>/    weights.safetensors
      codes/<key>/      layer.0000.safetensors, layer.0000.json, ...: what calibration chose
      reference/<key>/  yardstick.npz, logits.npy, hidden.*.npy
      passport/<key>/   accuracy.json
      names/<artefact>.json   the keys that each artefact was last made of, for --explain

A piece is prepared in ``<key>.part`` and renamed when it is whole, with ``piece.json`` beside its
files: their sizes and SHA-256, compared at every use. What is torn, damaged or was changed is made
again. What a killed compile leaves in ``<key>.part`` is there for the next one of the same key,
which holds the key's lock: two compiles never work on one piece.

Packed weights are not on the disk twice: the file in the artefact is a hard link to the one in the
cache. So the cache, too, takes no room worth speaking of: weights go when no artefact holds them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as strict_dataclass

from tvm_vacc.artifact.lock import file_lock
from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.cache.explain import Explanation, explain
from tvm_vacc.cache.key import Key
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import (
    CACHED_CODES,
    CACHED_REFERENCES,
    CACHED_SMALL_PIECES,
    PARTIAL_PIECE_SECONDS,
)
from tvm_vacc.safe_io import inside, read_json, sha256_file
from tvm_vacc.strict import parse

DIRECTORY = ".tvm_vacc_cache"
"""Stands beside the artefact, whose files are hard links into it."""

WEIGHTS = "weights"
"""The kind of piece that is large, and goes when no artefact holds it."""

REFERENCE = "reference"
"""The kind of piece that is large, and that no artefact holds: few are kept."""

CODES = "codes"
"""The kind of piece that calibration makes: as large as the weights, and dear."""

_KEPT = {CODES: CACHED_CODES, REFERENCE: CACHED_REFERENCES}
"""Pieces of a kind that are kept, where they are not small."""

_RECORD = "piece.json"
_OWNER = "artefact.txt"


@strict_dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class _Record:
    """What ``piece.json`` says."""

    files: dict[str, FileEntry]


_RECORDS: TypeAdapter[_Record] = TypeAdapter(_Record)


@dataclass
class Piece:
    """A piece that is there, or is to be made.

    Attributes:
        directory: where its files are, or are to be written.
        is_ready: whether they are there, and were checked.
        files: those that are.
    """

    directory: Path
    is_ready: bool
    files: dict[str, FileEntry] = field(default_factory=dict)
    _final: Path = field(default_factory=Path)

    def finish(self, files: dict[str, FileEntry]) -> None:
        """Put the piece, whose `files` are in `directory`, in its place.

        Nothing is synced, which would wait for a disk that reads ahead: what a power cut tears is
        told by its hash.
        """
        document = _RECORDS.dump_python(_Record(files), mode="json")
        (self.directory / _RECORD).write_text(json.dumps(document))
        shutil.rmtree(self._final, ignore_errors=True)
        os.rename(self.directory, self._final)
        self.directory, self.files, self.is_ready = self._final, files, True
        for path in self.directory.iterdir():
            if path.name not in files and path.name != _RECORD:
                path.unlink()  # what the work needed beside them

    def place(self, name: str, target: Path) -> FileEntry:
        """Put a file of the piece at `target`, synced, without taking room for it twice.

        Where the file system has no hard links, it is moved: nothing is left to be reused.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        with (self.directory / name).open("rb") as stream:
            os.fsync(stream.fileno())
        try:
            os.link(self.directory / name, target)
        except OSError:
            os.rename(self.directory / name, target)
        return self.files[name]


class Cache:
    """The cache beside one artefact, for one compile."""

    def __init__(self, root: Path, artefact: str, *, reuse: bool = True) -> None:
        """Open the cache; nothing is read yet.

        Args:
            root: its directory; made when something is kept.
            artefact: the name of what is compiled.
            reuse: whether pieces may be reused; else all are made anew.
        """
        self.root = root
        self.explanations: list[Explanation] = []
        self._artefact = artefact
        self._names = root / "names" / f"{artefact}.json"
        self._reuse = reuse
        self._before: dict[str, dict[str, str]] | None = None
        self._now: dict[str, dict[str, str]] = {}

    @contextmanager
    def piece(
        self,
        kind: str,
        key: Key,
        *,
        label: str = "",
        fresh: str = "",
        waiting: Callable[[], None] = lambda: None,
        checked: Callable[[int], None] | None = None,
    ) -> Iterator[Piece]:
        """Lend a piece, under its lock: ready, or to be made and finished by the caller.

        Args:
            kind: `graph`, `passes`, `kernels`, `codes`, `weights`, `reference` or `passport`.
            key: what it is made of.
            label: what it is called; default: its kind.
            fresh: why it must be made anew, if it must.
            waiting: called when another process is making this piece.
            checked: called with the number of bytes just hashed.

        Raises:
            OSError: the cache cannot be written.
        """
        label = label or kind
        final = self.root / kind / key.digest
        final.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = final.with_name(f"{final.name}.lock")
            try:
                stack.enter_context(file_lock(lock, wait=False))
            except BlockingIOError:
                waiting()
                stack.enter_context(file_lock(lock, wait=True))
            fresh = fresh or ("" if self._reuse else "told not to reuse anything")
            files, damage = (None, "") if fresh else _checked_files(final, checked)
            if label not in self._now:  # what is lent twice in one compile is explained once
                previous = self._last_parts().get(label)
                reason = fresh or damage
                self.explanations.append(explain(label, key, previous, files is not None, reason))
            self._now[label] = key.told
            if files is not None:
                os.utime(final)  # the time of its last use
                yield Piece(final, True, files, final)
            else:
                partial = final.with_name(f"{final.name}.part")
                if fresh:
                    shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(exist_ok=True)  # what a killed compile has left is in it
                (partial / _OWNER).write_text(self._artefact)
                yield Piece(partial, False, {}, final)

    def close(self) -> None:
        """Note what the artefact was made of, and clear what nobody needs; after the commit."""
        self._names.parent.mkdir(parents=True, exist_ok=True)
        partial = self._names.with_name(f"{self._names.name}.{os.getpid()}")
        partial.write_text(json.dumps(self._now))
        os.replace(partial, self._names)
        for kind in self.root.iterdir():
            if kind.is_dir() and kind != self._names.parent:
                with suppress(OSError):  # the artefact is in place: room is all that is lost
                    self._clear(kind)

    def _clear(self, kind: Path) -> None:
        """Remove unfinished pieces of this artefact, weights that no artefact holds, old others."""
        pieces = [path for path in kind.iterdir() if path.is_dir()]
        gone = [path for path in pieces if path.suffix == ".part"]
        finished = [path for path in pieces if path.suffix != ".part"]
        if kind.name != WEIGHTS:
            kept = _KEPT.get(kind.name, CACHED_SMALL_PIECES)
            finished = sorted(finished, key=_last_use, reverse=True)[kept:]
        for path in [*gone, *finished]:
            lock = kind / f"{path.name.removesuffix('.part')}.lock"
            with suppress(BlockingIOError), file_lock(lock, wait=False):
                if path.suffix == ".part":
                    is_needed = not _is_abandoned(path, self._artefact)
                else:
                    is_needed = kind.name == WEIGHTS and _is_held(path)
                if not is_needed:
                    shutil.rmtree(path, ignore_errors=True)

    def _last_parts(self) -> dict[str, dict[str, str]]:
        """Return the keys of the last compile of this artefact: for explaining, nothing else."""
        if self._before is None:
            found: object = {}
            with suppress(ArtifactError):
                found = read_json(self._names, error=ArtifactError)
            adapter = TypeAdapter(dict[str, dict[str, str]])
            with suppress(ValueError):
                self._before = adapter.validate_python(found)
            self._before = self._before or {}
        return self._before


def _checked_files(
    final: Path, checked: Callable[[int], None] | None
) -> tuple[dict[str, FileEntry] | None, str]:
    """Return the files of a piece if all are as they were written, else None and what is wrong."""
    if not final.is_dir():
        return None, ""
    path = final / _RECORD
    try:
        document = read_json(path, error=ArtifactError)
        record = parse(_RECORDS, document, where=str(path), error=ArtifactError)
        for name, entry in record.files.items():
            file = inside(final, name, error=ArtifactError)
            if file.stat().st_size != entry.bytes or sha256_file(file, checked) != entry.sha256:
                return None, f"{name} in the cache is damaged"
    except (ArtifactError, OSError) as problem:
        return None, f"the cache is damaged: {problem}"
    return record.files, ""


def _is_abandoned(partial: Path, artefact: str) -> bool:
    """Whether no compile will go on with an unfinished piece: `artefact` is made, or it is old."""
    try:
        is_done = (partial / _OWNER).read_text() == artefact
    except OSError:
        is_done = False
    return is_done or time.time() - _last_use(partial) > PARTIAL_PIECE_SECONDS


def _is_held(path: Path) -> bool:
    """Whether a file of the piece has a second name, in an artefact."""
    return any(file.stat().st_nlink > 1 for file in path.iterdir() if file.name != _RECORD)


def _last_use(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
