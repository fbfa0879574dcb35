"""Lines of C that know which names they define and use, so that unused ones can be left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm_vacc.codegen_c.wrap import wrap

INDENT = "    "


@dataclass(frozen=True)
class Line:
    """One line of a function's body.

    Attributes:
        text: without indentation.
        depth: of the block it stands in.
        uses: local names it reads or writes.
        defines: the local name it declares; such a line goes when nothing uses the name.
    """

    text: str
    depth: int
    uses: frozenset[str] = frozenset()
    defines: str = ""


def without_unused(lines: list[Line]) -> list[Line]:
    """Return `lines` without the declarations of names that no other line uses."""
    while True:
        used: set[str] = set()
        for line in lines:
            used |= line.uses
        kept = [line for line in lines if not line.defines or line.defines in used]
        if len(kept) == len(lines):
            return kept
        lines = kept


def render(lines: Iterable[Line]) -> str:
    """Return the text of `lines`, indented and wrapped."""
    wrapped = (part for line in lines for part in wrap(line.text, len(INDENT) * line.depth))
    return "".join(f"{part}\n" for part in wrapped)


class Names:
    """Gives out identifiers that are in no one's way."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken) | RESERVED
        self._counts: dict[str, int] = {}

    def exactly(self, wanted: str) -> str:
        """Return `wanted`, made an identifier; with a number behind it where it is taken."""
        cleaned = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wanted)
        if not cleaned or cleaned[0].isdigit() or cleaned.startswith("_"):
            cleaned = f"n{cleaned}"
        return self._take(cleaned) if cleaned not in self._taken else self.numbered(cleaned + "_")

    def numbered(self, prefix: str) -> str:
        """Return the next free ``prefix1``, ``prefix2``, ..."""
        while True:
            self._counts[prefix] = self._counts.get(prefix, 0) + 1
            name = f"{prefix}{self._counts[prefix]}"
            if name not in self._taken:
                return self._take(name)

    def _take(self, name: str) -> str:
        self._taken.add(name)
        return name


RESERVED = frozenset(
    """
    auto bool break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while true false NULL INFINITY NAN status shared task
    exp log pow sin cos tan sqrt floor ceil round index main
    """.split()  # noqa: SIM905  sixty strings in quotes are harder to read
)
"""C's keywords, and names that the printed functions or <math.h> use."""
