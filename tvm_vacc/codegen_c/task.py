"""The text of a parallel loop's body: a struct of what it uses, and a function of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm_vacc.codegen_c.c_types import CType


def print_task(
    name: str,
    captured: Sequence[str],
    types: Mapping[str, str],
    text: str,
    index: CType | None,
) -> str:
    """Return the struct and the function.

    Args:
        name: of both.
        captured: names from outside that the body uses, in the order of the struct's members.
        types: their types in C.
        text: the body's lines.
        index: the type of the number of the task, which the body calls ``task``; None where the
            body does not use it.
    """
    space = {item: "" if types[item].endswith("*") else " " for item in captured}
    members = "".join(f"    {types[item]}{space[item]}{item};\n" for item in captured)
    opening = f"    const struct {name} *const shared = context;\n" if captured else ""
    opening += "".join(
        f"    {types[item]}{space[item]}const {item} = shared->{item};\n"
        if types[item].endswith("*")
        else f"    const {types[item]} {item} = shared->{item};\n"
        for item in captured
    )
    if not captured:
        opening += "    (void)context;\n"
    if index is None:
        opening += "    (void)index;\n"
    else:
        cast = "" if index.name == "int64_t" else f"({index.name})"
        opening += f"    const {index.name} task = {cast}index;\n"
    return (
        f"struct {name} {{\n{members or '    char none;' + chr(10)}}};\n\n"
        f"static int {name}(const void *context, int64_t index) {{\n{opening}{text}}}\n"
    )


def natural_order(name: str) -> tuple[str, int]:
    """Sort ``x2`` before ``x10``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)
