"""Puts a checkpoint's weight files where the .onnx file beside them may refer to them.

ONNX external data must lie in the directory of the .onnx file or below it: ONNX Runtime (1.32) and
onnx.checker (1.23) refuse `..`, absolute paths and symbolic links that lead out. A checkpoint of
18 GB is not copied for that, nor is its directory written to. What each way is worth:

| way       | when                                         | onnx.checker | ONNX Runtime |
|-----------|----------------------------------------------|--------------|--------------|
| in place  | the .onnx file is in or above the checkpoint | accepts      | runs         |
| clone     | one file system with reflinks (btrfs, XFS)   | accepts      | runs         |
| hard link | one file system                              | refuses      | runs         |
| symlink   | always                                       | refuses      | refuses      |

The last two columns are for the path of the .onnx file, as it stands. No way takes disk space, and
the compiler reads through all four. `check_onnx` runs onnx.checker on every one. To hand a
symlinked file to other tools, replace the links by copies (`cp -L`), which costs the size of the
checkpoint. A hard link is the checkpoint's own file: what changes one changes both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_vacc.errors import OnnxError

_FICLONE = 0x40049409
"""Linux ioctl: share the extents of another file of the same file system, copy on write."""


@dataclass(frozen=True)
class PlacedWeights:
    """Where the weight files are now.

    Attributes:
        way: `in place`, `clone`, `hard link` or `symlink`.
        locations: for each file, its path relative to the .onnx file's directory, with slashes.
    """

    way: str
    locations: dict[Path, str]


def place_weights(files: Sequence[Path], onnx_path: Path) -> PlacedWeights:
    """Make `files` reachable from `onnx_path` in the best way that copies nothing.

    Links go to the directory `<stem>.weights` beside the .onnx file, which is ours to rewrite.

    Args:
        files: distinct real files (no links) with distinct names.
        onnx_path: the .onnx file, which need not exist; its directory must.

    Raises:
        OnnxError: not even symbolic links can be made.
    """
    root = onnx_path.parent.resolve()
    if all(file.is_relative_to(root) for file in files):
        return PlacedWeights("in place", {f: f.relative_to(root).as_posix() for f in files})
    directory = root / f"{onnx_path.stem}.weights"
    for way, link in _WAYS.items():
        if _link_all(files, directory, link):
            return PlacedWeights(way, {f: f"{directory.name}/{f.name}" for f in files})
    raise OnnxError(
        f"{directory}: the weight files can be neither cloned nor linked there",
        "choose a workspace in or above the checkpoint's directory",
    )


def _link_all(files: Sequence[Path], directory: Path, link: Callable[[Path, Path], None]) -> bool:
    try:
        directory.mkdir(exist_ok=True)
        for file in files:
            target = directory / file.name
            target.unlink(missing_ok=True)
            link(file, target)
    except (OSError, ImportError):
        return False
    return True


def _clone(source: Path, target: Path) -> None:
    import fcntl  # POSIX only; elsewhere the next way is tried

    with source.open("rb") as reader, target.open("xb") as writer:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())


def _hard_link(source: Path, target: Path) -> None:
    os.link(source, target)


def _symlink(source: Path, target: Path) -> None:
    target.symlink_to(source)


_WAYS: dict[str, Callable[[Path, Path], None]] = {
    "clone": _clone,
    "hard link": _hard_link,
    "symlink": _symlink,
}
