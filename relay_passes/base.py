"""What every pass is: a named, frozen value that turns a module into a module and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm import ir

NUM_INPUT = "num_input"
"""Attribute of ``main``: how many of its parameters, from the first on, are no weights."""

NUM_CACHES = "num_caches"
"""Attribute of ``main``: how many of these, the last ones, are tensors of the KV cache."""


@dataclass(frozen=True)
class PassResult:
    """What a pass has made.

    Attributes:
        module: the rewritten module; well-formed.
        matches: how often the pass matched; the pipeline holds it against the model's structure.
        note: what the report says of it besides, such as what was left as it was.
    """

    module: ir.IRModule
    matches: int
    note: str = ""


class Pass(Protocol):
    """A graph pass. Implementations are frozen dataclasses whose fields are the options."""

    @property
    def name(self) -> str:
        """Name as printed in reports and taken by ``--print-ir-after``."""

    def apply(self, module: ir.IRModule) -> PassResult:
        """Return the rewritten module and the number of matches; `module` itself stays as it is."""
