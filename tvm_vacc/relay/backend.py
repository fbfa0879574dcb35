"""``relay.backend``: the names of executors and runtimes, which scripts pass to `relay.build`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Executor:
    """``Executor("graph")`` is the only one that `relay.build` takes.

    Attributes:
        name: ``graph``, ``aot`` or ``vm``.
        options: not looked at.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime:
    """``Runtime("cpp")`` is the only one that `relay.build` takes.

    Attributes:
        name: ``cpp`` or ``crt``.
        options: not looked at.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
