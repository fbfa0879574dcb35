"""How long lines of C are broken."""

from __future__ import annotations

from tvm_vacc.codegen_c.wrap import WIDTH, wrap

LONG = "a_rather_long_name_of_some_value"


def joined(text: str, indent: int = 4) -> str:
    lines = wrap(text, indent)
    assert all(len(line) <= WIDTH for line in lines)
    # Nothing but blanks is added or lost.
    assert "".join("".join(lines).split()) == "".join(text.split())
    return "\n".join(lines)


def test_a_short_line_stays() -> None:
    assert wrap("f(a, b);", 4) == ["    f(a, b);"]


def test_arguments_stand_one_on_a_line_and_are_broken_in_turn() -> None:
    text = f"store(&x[i + 1], add({LONG}, mul({LONG}, {LONG}), {LONG}));"
    assert joined(text) == (
        "    store(\n"
        "        &x[i + 1],\n"
        "        add(\n"
        f"            {LONG},\n"
        f"            mul({LONG}, {LONG}),\n"
        f"            {LONG}));"
    )


def test_short_items_fill_the_line() -> None:
    lanes = ", ".join(map(str, range(40)))
    assert (
        len(joined(f"const vacc_f32x16 v = shuffle((const uint8_t[]){{{lanes}}});").split("\n"))
        == 4
    )


def test_sums_are_broken_before_an_operator() -> None:
    assert joined(f"x[0] = {LONG} + {LONG} * {LONG} + 1;") == (
        f"    x[0] =\n        {LONG}\n            + {LONG} * {LONG} + 1;"
    )


def test_what_has_no_place_stays_long() -> None:
    assert wrap("x" * 120, 0) == ["x" * 120]
