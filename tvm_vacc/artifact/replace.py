"""Puts a finished directory in the place of another, so that a kill leaves one of them, whole.

Linux exchanges two names in one step (`renameat2` with `RENAME_EXCHANGE`, Linux 3.15), macOS too
(`renamex_np` with `RENAME_SWAP`). Where the system or the file system cannot (NFS), the old
directory is renamed aside and the new one into place. A kill between these two leaves no
destination, and the old one, whole, as ``<destination>.tmp-old``: `recover` puts it back, called
by the next writer and the next reader. All of it happens under the destination's lock, so nobody
takes a living writer's directory for a leftover.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tvm_vacc.artifact.lock import file_lock
from tvm_vacc.errors import ArtifactError
from tvm_vacc.safe_io import fsync_directory

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux and macOS agree on the value
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def temporary_sibling(destination: Path) -> Path:
    """Return the name of the directory in which this process prepares `destination`."""
    return destination.with_name(f"{destination.name}.tmp-{os.getpid()}")


def replace_directory(new: Path, destination: Path) -> None:
    """Put `new` in the place of `destination`; the caller holds the lock of `destination`.

    Args:
        new: a sibling of `destination`, its files synced.
        destination: a directory that goes, or a free name.

    Raises:
        OSError: the file system refuses; `destination` is what it was.
    """
    aside = _aside(destination)
    if not destination.exists():
        os.rename(new, destination)
    elif not exchange(new, destination):
        os.rename(destination, aside)
        try:
            os.rename(new, destination)
        except OSError:
            os.rename(aside, destination)
            raise
    fsync_directory(destination.parent)
    # Only now may the old one go: before, a power cut could have brought its name back.
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(aside, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot.

    Raises:
        OSError: it can, and refuses these two.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _RENAME_EXCHANGE)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))


def recover(destination: Path) -> None:
    """Clear what killed writers left; the caller holds the lock, so none of them lives.

    Raises:
        OSError: the file system refuses.
    """
    aside = _aside(destination)
    if aside.exists() and not destination.exists():
        os.rename(aside, destination)
        fsync_directory(destination.parent)
    ours = re.compile(re.escape(destination.name) + r"\.tmp-(\d+|old)")
    for sibling in destination.parent.iterdir():
        if ours.fullmatch(sibling.name):
            shutil.rmtree(sibling, ignore_errors=True)


def needs_recovery(destination: Path) -> bool:
    """Tell whether a killed writer has left `destination` under its name aside only."""
    return not destination.exists() and _aside(destination).exists()


@contextmanager
def destination_lock(destination: Path) -> Iterator[None]:
    """Hold the right to replace `destination`; it goes with its holder, however that ends.

    Raises:
        ArtifactError: another process holds it.
        OSError: the lock file cannot be made.
    """
    with ExitStack() as stack:
        try:
            path = destination.with_name(f".{destination.name}.lock")
            stack.enter_context(file_lock(path, wait=False))
        except BlockingIOError as problem:
            message = f"{destination}: another process is writing it"
            raise ArtifactError(message, "wait for it, or choose another directory") from problem
        yield


def _aside(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.tmp-old")
