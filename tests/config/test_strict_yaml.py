from __future__ import annotations

import pytest

from tvm_vacc.config.strict_yaml import parse_yaml
from tvm_vacc.errors import ConfigError


def parse(text: str) -> object:
    return parse_yaml(text, where="c.yaml", error=ConfigError)


def test_plain_values_are_those_of_yaml() -> None:
    text = "{a: 1, b: [true, 1.5, null], c: 2026-11-23, d: '1'}"
    assert parse(text) == {"a": 1, "b": [True, 1.5, None], "c": "2026-11-23", "d": "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("x:\n  a: 1\n  a: 1", "line 3: the key 'a' stands twice"),
        ("1: 2", "line 1: the key 1 is no text"),
        ("[a]: 2", "line 1: the key ['a'] is no text"),
        ("a: &x [1]\nb: *x", "line 2: aliases are not accepted"),
        ("a: [1\nb: 2", "line 2"),
        ("a: !!python/object/apply:os.system [id]", "line 1: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("a: \x07", "not valid YAML"),
        ("[" * 2000, "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("a: " + "1" * 5000, "not valid YAML"),
    ],
)
def test_refusals_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    line = str(caught.value)
    assert line.startswith("c.yaml: ")
    assert message in line
    assert line.endswith("; correct the YAML")
    assert "\n" not in line


def test_alias_bomb_is_refused_before_it_expands() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{name}: &{name} [*{before}, *{before}]\n"
        for before, name in zip(
            "abcdefghijklmnopqrstuvwx", "bcdefghijklmnopqrstuvwxyz", strict=False
        )
    )
    with pytest.raises(ConfigError, match="aliases"):
        parse(bomb)
