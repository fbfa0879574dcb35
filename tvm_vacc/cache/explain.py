"""Says of a piece whether it was reused, and if not, which part of its key has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_vacc.cache.key import Key

_SHOWN = 3
_NONE = "none"


@dataclass(frozen=True)
class Explanation:
    """What became of one piece.

    Attributes:
        piece: its name.
        reused: whether it was there.
        reason: why not, in one line; empty where it was.
    """

    piece: str
    reused: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.piece}: " + ("reused" if self.reused else f"made, {self.reason}")


def explain(
    piece: str, key: Key, before: Mapping[str, str] | None, reused: bool, reason: str
) -> Explanation:
    """Compare a key with that of the last compile of the same artefact.

    Args:
        piece: its name.
        key: of now.
        before: the parts of then; None where there was none.
        reused: whether the piece was there and whole.
        reason: what else speaks against reusing it; empty where nothing does.
    """
    if reused:
        return Explanation(piece, True, "")
    if reason:
        return Explanation(piece, False, reason)
    if before is None:
        return Explanation(piece, False, "it is the first of this artefact")
    changes = [
        f"{name}: {before.get(name, _NONE)} -> {key.parts.get(name, _NONE)}"
        for name in [*key.parts, *(before.keys() - key.parts.keys())]
        if before.get(name) != key.parts.get(name)
    ]
    if not changes:
        return Explanation(piece, False, "nothing has changed, but it is not in the cache")
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return Explanation(piece, False, "; ".join(changes[:_SHOWN]) + more)
