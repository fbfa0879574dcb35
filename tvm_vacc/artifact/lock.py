"""A lock between processes: the operating system's, on a hidden file; it goes with its holder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock that the file `path` stands for; the file is removed at the end.

    Args:
        path: of the file, in a directory that exists.
        wait: whether to wait for another holder.

    Raises:
        BlockingIOError: another process holds it, and `wait` is off.
        OSError: the file cannot be made.
    """
    import fcntl  # here, since Windows, which has none, can still read artefacts

    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
            # A holder removes the file when it is done: a lock on the removed file is worth
            # nothing, as the next one locks a new file.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        except FileNotFoundError:
            pass  # removed between the two looks at it: try again
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
