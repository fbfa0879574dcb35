"""The budget that a chat template spends: what keeps a rendering within time and memory.

An iteration or a macro call spends one unit and the text in its body, a value that is made as many
units as it is large.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

from tvm_vacc.limits import MAX_TEMPLATE_SECONDS, MAX_TEMPLATE_UNITS


class _Budget:
    """What one rendering may still spend: units and time."""

    def __init__(self) -> None:
        self.units = MAX_TEMPLATE_UNITS
        self.deadline = time.monotonic() + MAX_TEMPLATE_SECONDS

    def spend(self, units: int) -> None:
        self.units -= units
        if self.units < 0:
            raise SecurityError("it makes too much text or runs through too many loops")
        if time.monotonic() > self.deadline:
            raise SecurityError(f"it takes longer than {MAX_TEMPLATE_SECONDS:g} s")


_budget: ContextVar[_Budget] = ContextVar("template_budget")


@contextmanager
def limited() -> Iterator[None]:
    """Give the templates compiled and rendered inside one budget; outside none can run."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def spend(units: int) -> None:
    """Take `units` from the budget that is open.

    Raises:
        SecurityError: none are left, or the time is over.
        LookupError: no budget is open.
    """
    _budget.get().spend(units)


def spend_size(value: Any) -> int:
    """Spend the size of `value`, a shared part as often as it is reached, and return it."""
    size, pending = 0, [value]
    while pending:
        item = pending.pop()
        units = 1
        if isinstance(item, str):
            units += len(item)
        elif isinstance(item, int) and item.bit_length() > 64:
            raise SecurityError("it computes with numbers of more than 64 bits")
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            pending += item
        spend(units)
        size += units
    return size


def measured(value: Any) -> Any:
    """Spend the size of `value` and return `value`."""
    spend_size(value)
    return value


def concatenated(*values: Any) -> str:
    """Do what ``~`` does, each value and the result being measured."""
    return str(measured("".join(str(measured(value)) for value in values)))
