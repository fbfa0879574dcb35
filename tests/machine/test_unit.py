from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tvm_vacc.machine.unit import unit_of


def manifest(products: str, *stored: tuple[str, int]) -> Any:
    storage = [SimpleNamespace(kind="linear", stored_as=name, bytes=size) for name, size in stored]
    return SimpleNamespace(products=products, storage=storage)


@pytest.mark.parametrize(
    ("products", "stored", "unit"),
    [
        ("bf16", [("bf16", 9)], "bf16"),
        ("fp32", [("fp16", 9)], "fp32"),
        ("bf16", [("w8a8", 9), ("w8a16", 1)], "int8"),
        ("bf16", [("w8a8", 1), ("w8a16", 9)], "bf16"),
        ("fp32", [], "fp32"),
    ],
)
def test_what_most_weights_are_multiplied_in(
    products: str, stored: list[tuple[str, int]], unit: str
) -> None:
    assert unit_of(manifest(products, *stored)) == unit
