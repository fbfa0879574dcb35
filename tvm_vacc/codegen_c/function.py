"""A printed function's frame: the scratch memory it allocates and gives back, what it returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tvm_vacc.codegen_c.lines import Line, render, without_unused


class Scratch(NamedTuple):
    """An allocated array.

    Attributes:
        name: of the variable.
        scalar: type of its elements.
        elements: how many, in C.
        uses: names that `elements` uses.
    """

    name: str
    scalar: str
    elements: str
    uses: frozenset[str]


@dataclass
class Function:
    """A function while it is printed.

    Attributes:
        known: names that its arguments define: sizes of scratch memory may use these only.
        scratch: arrays it may allocate; those that no line uses are left out.
    """

    known: frozenset[str]
    scratch: list[Scratch] = field(default_factory=list)

    def body(self, lines: list[Line]) -> str:
        """Return `lines` between the function's allocations and releases, and its result."""
        lines = without_unused(lines)
        used = _uses(lines)
        scratch = [item for item in self.scratch if item.name in used]
        opening = [
            Line(f"{item.scalar} *const {item.name} = vacc_allocate({_bytes(item)});", 1)
            for item in scratch
        ]
        release = [Line(f"vacc_release({item.name});", 1) for item in reversed(scratch)]
        if scratch:
            test = " || ".join(f"{item.name} == NULL" for item in scratch)
            opening += [
                Line(f"if ({test}) {{", 1),
                *(Line(line.text, 2) for line in release),
                Line("return VACC_NO_MEMORY;", 2),
                Line("}", 1),
            ]
        has_status = "status" in used
        if has_status:
            opening.append(Line("int status = VACC_OK;", 1))
        result = Line(f"return {'status' if has_status else 'VACC_OK'};", 1)
        return render([*opening, *lines, *release, result])

    def used_names(self, lines: list[Line]) -> frozenset[str]:
        """Return the names that the function uses, of its own and from outside."""
        used = _uses(without_unused(lines))
        sizes = (item.uses for item in self.scratch if item.name in used)
        return used.union(*sizes)


def _uses(lines: Iterable[Line]) -> frozenset[str]:
    return frozenset[str]().union(*(line.uses for line in lines))


def _bytes(item: Scratch) -> str:
    return f"sizeof({item.scalar}) * ({item.elements})"
