"""An artefact in one file: a tar of its directory, written whole and read with suspicion."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from tvm_vacc.artifact.kernel_files import LIBRARY_SUFFIX
from tvm_vacc.artifact.manifest import (
    MANIFEST_NAME,
    Manifest,
    parse_manifest,
    read_manifest,
)
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import MAX_JSON_BYTES
from tvm_vacc.safe_io import fsync_directory, inside, parse_json

ARCHIVE_SUFFIX = ".tar"

_CURE = "compile the model again by: tvmc compile -f tar"
_CURES = {
    LIBRARY_SUFFIX: "it is a library, which tvmc run runs; inspect one of -f dir or -f tar",
    **dict.fromkeys((".onnx", ".pt2", ".py", ".yaml"), "it is a model: first tvmc compile"),
}
_MODE = 0o644


def pack_artifact(directory: Path, archive: Path) -> None:
    """Write the artefact in `directory` to the file `archive`, in place of what is there.

    Equal artefacts give equal files: neither owners nor times go along. It is not compressed:
    weights hardly get smaller.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    part = archive.with_name(f".{archive.name}.tmp-{os.getpid()}")
    names = sorted(path.relative_to(directory).as_posix() for path in _files(directory))
    names.sort(key=lambda name: name != MANIFEST_NAME)  # first: a reader knows at once what it is
    try:
        with part.open("wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for name in names:
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = (directory / name).stat().st_size, _MODE
                    with (directory / name).open("rb") as source:
                        tar.addfile(info, source)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, archive)
        fsync_directory(archive.parent)
    finally:
        part.unlink(missing_ok=True)


def unpack_artifact(archive: Path, directory: Path) -> None:
    """Unpack what `pack_artifact` has written into `directory`, which is there and empty.

    Nothing leaves `directory`: only plain files are taken, by plain names, each once. What they
    hold is checked when the artefact is opened.

    Raises:
        ArtifactError: it is no such archive, is damaged or compressed, holds links, special or
            sparse files or names that lead elsewhere, or the disk has not the room.
    """
    try:
        with tarfile.open(archive, mode="r:") as tar:
            members = tar.getmembers()
            _check(members, archive, directory)
            for member in members:
                _unpack(tar, member, directory)
    except tarfile.TarError as error:
        raise ArtifactError(
            f"{archive}: is no tar of an artefact ({error})", _cure(archive)
        ) from error
    except OSError as error:
        raise ArtifactError(
            f"{archive}: cannot be unpacked to {directory} ({error.strerror or error})",
            "unpack it yourself by tar -xf, and give the directory",
        ) from error


def manifest_of(path: Path) -> Manifest:
    """Return what an artefact says of itself, be it a directory or a tar; checks no other file.

    Raises:
        ArtifactError: it is neither, or its manifest is damaged.
    """
    if not path.is_file():
        return read_manifest(path / MANIFEST_NAME)
    try:
        with tarfile.open(path, mode="r:") as tar:
            member = tar.next()
            if member is None or member.name != MANIFEST_NAME or not member.isreg():
                raise ArtifactError(f"{path}: is no artefact: {MANIFEST_NAME} is not first", _CURE)
            source = tar.extractfile(member)
            data = b"" if source is None else source.read(MAX_JSON_BYTES)
    except (OSError, tarfile.TarError) as error:
        raise ArtifactError(f"{path}: is no tar of an artefact ({error})", _cure(path)) from error
    where = f"{path}: {MANIFEST_NAME}"
    return parse_manifest(parse_json(data, where=where, error=ArtifactError), where=where)


def _cure(path: Path) -> str:
    """Return what to do with a file that is no tar, as its name tells."""
    return _CURES.get(path.suffix, _CURE)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _check(members: list[tarfile.TarInfo], archive: Path, directory: Path) -> None:
    names = set()
    for member in members:
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise ArtifactError(f"{archive}: {member.name!r} is no plain file", _CURE)
        inside(directory, member.name, error=ArtifactError, where=str(archive), cure=_CURE)
        if member.name in names:
            raise ArtifactError(f"{archive}: holds {member.name!r} twice", _CURE)
        names.add(member.name)
    if MANIFEST_NAME not in names:
        raise ArtifactError(f"{archive}: holds no {MANIFEST_NAME}, is no artefact", _CURE)
    needed = sum(member.size for member in members)
    if shutil.disk_usage(directory).free < needed:
        raise ArtifactError(
            f"{archive}: needs {needed >> 20} MiB at {directory}, which has not as much",
            "set TMPDIR to another disk, or unpack it yourself and give the directory",
        )


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    source = tar.extractfile(member)
    if source is None:  # a directory: made with the files in it
        return
    path = directory / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        shutil.copyfileobj(source, target)
    if path.stat().st_size != member.size:
        raise ArtifactError(f"{tar.name!s}: {member.name}: truncated", _CURE)
