"""Says of a piece whether it was reused, and if not, which part of its key has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        before: all that was told of then (`Key.told`); None where there was none.
        reused: whether the piece was there and whole.
        reason: what else speaks against reusing it; empty where nothing does.
    """
    if reused:
        return Explanation(piece, True, "")
    if reason:
        return Explanation(piece, False, reason)
    if before is None:
        return Explanation(piece, False, "it is the first of this artefact")
    told = key.told

    def changed(names: Iterable[str]) -> list[str]:
        return [name for name in names if before.get(name) != told.get(name)]

    names: dict[str, None] = {}
    for name in changed([*key.parts, *(before.keys() - told.keys())]):
        names |= dict.fromkeys(changed(key.behind.get(name, ())) or [name])
    if not names:
        return Explanation(piece, False, "nothing has changed, but it is not in the cache")
    changes = [f"{name}: {before.get(name, _NONE)} -> {told.get(name, _NONE)}" for name in names]
    more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return Explanation(piece, False, "; ".join(changes[:_SHOWN]) + more)
