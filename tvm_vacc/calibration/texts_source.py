"""What calibration reads: which texts, how many samples of them, how long, drawn by which seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tvm_vacc.errors import DatasetError

TextFormat = Literal["c4", "ceval", "alpaca", "text"]

SUFFIXES: Final[dict[TextFormat, tuple[str, ...]]] = {
    "c4": (".json.gz", ".jsonl.gz"),
    "ceval": (".zip",),
    "alpaca": (".json",),
    "text": (".txt",),
}
"""How the names of published files end, by their format."""

BUILTIN: Final = Path(__file__).parent / "texts"
"""The text that comes with the package: a part of what the demo checkpoint was trained on (every
15th chapter of the King James Bible, every 20th poem; no chapter or poem of `demo/heldout`)."""


@dataclass(frozen=True)
class TextSource:
    """Texts on this machine, and the samples wanted of them.

    Attributes:
        path: a file, or a directory of files of one format.
        format: None: as the names of the files end.
        nsamples: samples.
        seqlen: tokens a sample.
        seed: chooses texts and windows; the same seed gives the same samples.
    """

    path: Path = BUILTIN
    format: TextFormat | None = None
    nsamples: int = 128
    seqlen: int = 512
    seed: int = 0

    def files(self) -> tuple[TextFormat, tuple[Path, ...]]:
        """Return the format and the files, in the order of their names.

        Raises:
            DatasetError: there are none, or files of several formats.
        """
        try:
            found = dict(_found(self.path, self.format))
        except OSError as problem:
            raise DatasetError(f"{self.path}: cannot be read ({problem.strerror})") from problem
        if not found:
            raise DatasetError(f"{self.path}: {_absence(self.path)}", _cure(self.format))
        if len(found) > 1:
            raise DatasetError(
                f"{self.path}: holds files of several formats ({', '.join(found)})",
                "write which one as dataset.name, or give the file itself",
            )
        return next(iter(found.items()))


def _found(path: Path, wanted: TextFormat | None) -> Iterator[tuple[TextFormat, tuple[Path, ...]]]:
    candidates = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    for kind, suffixes in SUFFIXES.items():
        files = tuple(file for file in candidates if file.name.lower().endswith(suffixes))
        if files and wanted in (None, kind):
            yield kind, files


def _absence(path: Path) -> str:
    if not path.exists():
        return "no such file or directory"
    return "no file of a known format in it" if path.is_dir() else "is of no known format"


def _cure(wanted: TextFormat | None) -> str:
    kinds = SUFFIXES if wanted is None else {wanted: SUFFIXES[wanted]}
    known = ", ".join(f"{kind}: {' or '.join(names)}" for kind, names in kinds.items())
    return f"give a file as published ({known})"
