"""Breaks long lines of C at the commas of their outermost brackets, then at operators."""

from __future__ import annotations

from typing import Final

WIDTH: Final = 100
"""Columns, as in the sources that are written by hand."""

_STEP = 4
_SHORT = 12
"""Items no longer than this, as the lanes of a shuffle, stand several on a line."""

_OPENING, _CLOSING = "([{", ")]}"
_OPERATORS = (" = ", " ? ", " : ", " || ", " && ", " + ", " - ", " * ", " / ")
"""Where lines without long brackets are broken: behind the first, before the others."""


def wrap(text: str, indent: int) -> list[str]:
    """Return the lines of a statement that begins at column `indent`, none longer than `WIDTH`.

    A line that has no place to be broken stays long.
    """
    if indent + len(text) <= WIDTH:
        return [" " * indent + text]
    group = _longest_group(text)
    if group is not None:
        start, end = group
        head, inside, tail = text[: start + 1], text[start + 1 : end], text[end:]
        if indent + len(head) <= WIDTH and len(inside) > WIDTH // 4:
            return [*wrap(head, indent), *_items(inside, tail, indent + _STEP)]
    return _at_operators(text, indent)


def _items(inside: str, tail: str, indent: int) -> list[str]:
    items = _split(inside)
    if len(items) > 2 and all(len(item) <= _SHORT for item in items):
        return _filled(items, tail, indent)
    lines = [line for item in items[:-1] for line in wrap(item + ",", indent)]
    return [*lines, *wrap(items[-1] + tail, indent)]


def _filled(items: list[str], tail: str, indent: int) -> list[str]:
    lines, line = [], ""
    for position, item in enumerate(items):
        word = item + ("," if position + 1 < len(items) else tail)
        if line and indent + len(line) + 1 + len(word) > WIDTH:
            lines.append(" " * indent + line)
            line = ""
        line = f"{line} {word}" if line else word
    return [*lines, " " * indent + line]


def _at_operators(text: str, indent: int) -> list[str]:
    """Break at the operator outside of all brackets that binds least."""
    for operator in _OPERATORS:
        place = _last_outside(text, operator, WIDTH - indent)
        if place > 0:
            behind = operator == " = "
            first = text[:place] + (" =" if behind else "")
            rest = text[place + len(operator) :] if behind else text[place + 1 :]
            return [" " * indent + first, *wrap(rest, indent + _STEP)]
    return [" " * indent + text]


def _last_outside(text: str, operator: str, most: int) -> int:
    """Return the last place of `operator` outside of brackets, up to `most`; else -1."""
    depth, found = 0, -1
    for place, char in enumerate(text[:most]):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0 and text.startswith(operator, place):
            found = place
    return found


def _longest_group(text: str) -> tuple[int, int] | None:
    """Return the places of the round or curly brackets, outside of others, that hold the most."""
    best: tuple[int, int] | None = None
    depth = start = 0
    for place, char in enumerate(text):
        if char in _OPENING:
            start = place if depth == 0 else start
            depth += 1
        elif char in _CLOSING:
            depth -= 1
            longer = best is None or place - start > best[1] - best[0]
            if depth == 0 and text[start] != "[" and longer:
                best = (start, place)
    return best


def _split(inside: str) -> list[str]:
    """Split at the commas outside of brackets."""
    items, depth, start = [], 0, 0
    for place, char in enumerate(inside):
        depth += (char in _OPENING) - (char in _CLOSING)
        if char == "," and depth == 0:
            items.append(inside[start:place].strip())
            start = place + 1
    return [*items, inside[start:].strip()]
