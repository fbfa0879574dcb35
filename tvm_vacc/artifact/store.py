"""Writes an artefact's directory whole or not at all, and opens it after checking it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tvm_vacc.artifact.manifest import (
    COMPILE_AGAIN,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    is_our_manifest,
    read_manifest,
)
from tvm_vacc.artifact.replace import (
    destination_lock,
    needs_recovery,
    recover,
    replace_directory,
    temporary_sibling,
)
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import ALWAYS_HASHED_BYTES, MAX_JSON_BYTES
from tvm_vacc.safe_io import fsync_directory, inside, read_bytes, sha256_file

_OTHER_PLACE = "choose another directory"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class ArtifactWriter:
    """Collects an artefact's files in a sibling directory and puts it in place by `commit`.

    A context manager. Until `commit` returns, the destination is what it was; leaving the block
    without it, by an error or Ctrl-C, removes all that was written. After kill -9 the destination
    holds the old artefact or the new one, whole; the next writer removes what was left over.

    Attributes:
        destination: the artefact's directory, links resolved.
        directory: where the files are to be written, subdirectories as wanted.
    """

    def __init__(self, destination: Path | str) -> None:
        """Name the destination.

        Raises:
            ArtifactError: it is no path that a directory can have.
        """
        try:
            self.destination = Path(destination).expanduser().resolve()
            self.directory = temporary_sibling(self.destination)
        except (OSError, RuntimeError, ValueError) as problem:  # a loop of links, no home, "/"
            message = f"{destination}: cannot be written: {problem}"
            raise ArtifactError(message, _OTHER_PLACE) from problem
        self._known: dict[str, FileEntry] = {}
        self._cleanup = ExitStack()

    def __enter__(self) -> ArtifactWriter:
        """Lock the destination, clear what killed writers left, and make `directory`.

        Raises:
            ArtifactError: the destination is something else than an artefact, another process is
                writing it, or its parent cannot be written.
        """
        try:
            self.destination.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                stack.enter_context(destination_lock(self.destination))
                recover(self.destination)
                _refuse_foreign(self.destination)
                stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
                self.directory.mkdir()
                self._cleanup = stack.pop_all()
        except OSError as problem:
            raise _write_error(self.destination, problem) from problem
        return self

    def copy(self, source: Path, name: str) -> None:
        """Copy a file into the artefact.

        Args:
            source: the file; a link is followed.
            name: its name in the artefact.
        """
        target = self.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def adopt(self, name: str, entry: FileEntry) -> None:
        """Take a file that stands in `directory`, synced, without hashing it once more."""
        self._known[name] = entry

    @property
    def adopted(self) -> dict[str, FileEntry]:
        """The files taken by `adopt`, by name: kernels and weights."""
        return dict(self._known)

    def commit(self, manifest: Manifest) -> Manifest:
        """Sync and hash every file, write the manifest last, and put the directory in place.

        Args:
            manifest: what the artefact is; its `files` are filled here.

        Returns:
            The manifest as written.

        Raises:
            ArtifactError: a link or a special file stands in `directory`.
            OSError: the disk is full; turned into an `ArtifactError` at the end of the block.
        """
        files = {}
        directories = [self.directory]
        for path in sorted(self.directory.rglob("*")):
            name = path.relative_to(self.directory).as_posix()
            if path.is_dir() and not path.is_symlink():
                directories.append(path)
            elif path.is_symlink() or not path.is_file() or name == MANIFEST_NAME:
                raise ArtifactError(f"{path}: cannot be a file of an artefact", "")
            else:
                files[name] = self._known.get(name) or _sync_and_hash(path)
        manifest = dataclasses.replace(manifest, files=files)
        _write_synced(self.directory / MANIFEST_NAME, manifest.to_json())
        for directory in directories:
            fsync_directory(directory)
        replace_directory(self.directory, self.destination)
        return manifest

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not committed and release the lock.

        Raises:
            ArtifactError: the block ended by an error of the file system, as of a full disk.
        """
        self._cleanup.close()
        if isinstance(error, OSError):
            raise _write_error(self.destination, error) from error


@dataclass(frozen=True)
class Artifact:
    """An opened artefact.

    Attributes:
        path: its directory.
        manifest: what it is and holds.
        identity: hash of the manifest that was checked.
    """

    path: Path
    manifest: Manifest
    identity: str

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists.

        Raises:
            ArtifactError: it lists none of that name.
        """
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path}: holds no file {name!r}", COMPILE_AGAIN)
        return self.path / name

    def require_unchanged(self) -> None:
        """Refuse when another compile has replaced the directory; to be called after loading.

        Raises:
            ArtifactError: what was loaded may be a mixture of two artefacts.
        """
        if _identity(self.path) != self.identity:
            raise ArtifactError(f"{self.path}: was replaced while it was loaded", "load it again")


def open_artifact(
    path: Path | str, *, verify: bool = False, progress: Callable[[int], None] | None = None
) -> Artifact:
    """Check an artefact and return what its manifest says.

    Every file must be there with its size; files under `ALWAYS_HASHED_BYTES` are hashed.

    Args:
        path: the artefact's directory.
        verify: hash the larger files too, at about a second a gigabyte.
        progress: called with the number of bytes just hashed.

    Raises:
        ArtifactError: no artefact, of another format version, damaged, truncated, incomplete.
    """
    try:
        path = Path(path).expanduser().absolute()
    except RuntimeError as problem:
        raise ArtifactError(f"{path}: {problem}", "write the whole path") from problem
    while True:
        before = _identity(path)
        try:
            return _open(path, verify, progress)
        except ArtifactError:
            if _identity(path) == before:
                raise  # else another compile replaced it meanwhile: look at what is there now


def _open(path: Path, verify: bool, progress: Callable[[int], None] | None) -> Artifact:
    try:
        if needs_recovery(path):
            with destination_lock(path):
                recover(path)
        identity = _identity(path)
        if not path.is_dir():
            what = "is no directory" if path.exists() else "no such artefact"
            raise ArtifactError(f"{path}: {what}", "make one by: tvmc compile")
        manifest = read_manifest(path / MANIFEST_NAME)
        for name, entry in manifest.files.items():
            _check_file(path, name, entry, verify, progress)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path}: cannot be read ({problem})", COMPILE_AGAIN) from problem
    if absent := sorted(set(manifest.weights) - manifest.files.keys()):
        message = f"{path / MANIFEST_NAME}: weights: {absent[0]!r} is not among its files"
        raise ArtifactError(message, COMPILE_AGAIN)
    artifact = Artifact(path, manifest, identity)
    artifact.require_unchanged()
    return artifact


def _check_file(
    root: Path,
    name: str,
    entry: FileEntry,
    verify: bool,
    progress: Callable[[int], None] | None,
) -> None:
    manifest = str(root / MANIFEST_NAME)
    path = inside(root, name, error=ArtifactError, where=manifest, cure=COMPILE_AGAIN)
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing", COMPILE_AGAIN)
    size = path.stat().st_size
    if size != entry.bytes:
        what = "truncated" if size < entry.bytes else "damaged"
        raise ArtifactError(f"{path}: {what}: {size} of {entry.bytes} bytes", COMPILE_AGAIN)
    if (verify or size < ALWAYS_HASHED_BYTES) and sha256_file(path, progress) != entry.sha256:
        raise ArtifactError(f"{path}: damaged: its sha256 is another", COMPILE_AGAIN)


def _refuse_foreign(destination: Path) -> None:
    """Refuse to replace what no compile has made: a directory of the user's own would be lost."""
    empty = destination.is_dir() and not any(destination.iterdir())
    if destination.exists() and not empty and not is_our_manifest(destination / MANIFEST_NAME):
        cure = "choose another directory, or remove it yourself"
        raise ArtifactError(f"{destination}: exists and is no artefact", cure)


def _identity(path: Path) -> str:
    """Hash the manifest: it holds the hashes of all files, and inode numbers are soon reused."""
    try:
        manifest = read_bytes(path / MANIFEST_NAME, limit=MAX_JSON_BYTES, error=ArtifactError)
    except ArtifactError:
        return ""
    return hashlib.sha256(manifest).hexdigest()


def _sync_and_hash(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)


def _write_synced(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _write_error(destination: Path, problem: OSError) -> ArtifactError:
    if problem.errno in _DISK_FULL:
        return ArtifactError(f"{destination}: the disk is full", "free some space")
    at = f" ({problem.filename})" if problem.filename else ""
    message = f"{destination}: cannot be written: {problem.strerror or problem}{at}"
    return ArtifactError(message, _OTHER_PLACE)
