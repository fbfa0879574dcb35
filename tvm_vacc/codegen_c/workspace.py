"""The storages of a printed Relax function: places in one workspace that the caller brings."""

from __future__ import annotations

from collections.abc import Iterable

from tvm_vacc.codegen_c.lines import Line


class Workspace:
    """Collects storages while a function is printed.

    Args:
        function: its name.
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._storages: dict[str, str] = {}

    def add(self, name: str, size: str) -> str:
        """Add a storage of `size` bytes, an expression of C; return its name."""
        self._storages[name] = size
        return name

    def measure(self, dims: Iterable[str]) -> str:
        """Return the function that tells how many bytes a workspace has.

        Args:
            dims: names of the dimensions that sizes may depend on.
        """
        used = set[str]().union(*map(_words, self._storages.values()))
        opening = "".join(
            f"    const int64_t {name} = arguments->{name};\n" for name in dims if name in used
        )
        sizes = (f"VACC_ALIGNED({size})" for size in self._storages.values())
        total = " +\n           ".join(sizes) or "0"
        function = self._function
        return (
            f"size_t {function}_workspace(const struct {function}_arguments *arguments) {{\n"
            f"{opening or '    (void)arguments;' + chr(10)}    return {total};\n}}\n\n"
        )

    def put_before_use(self, lines: list[Line]) -> list[Line]:
        """Return `lines` with the places of the storages before the first line that needs one."""
        if not self._storages:
            return [Line("(void)workspace;", 1), *lines]
        places = [Line("char *next = workspace;", 1)]
        for name, size in self._storages.items():
            places.append(Line(f"char *const {name} = next;", 1))
            places.append(Line(f"next += VACC_ALIGNED({size});", 1, frozenset(_words(size))))
        places.append(Line("(void)next;", 1))
        first = next(i for i, line in enumerate(lines) if line.uses & self._storages.keys())
        return [*lines[:first], *places, *lines[first:]]


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
