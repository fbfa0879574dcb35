"""``relay.analysis``."""

from __future__ import annotations

from typing import Any

from tvm_vacc.relay import elsewhere
from tvm_vacc.relay.expr import free_vars as free_vars


def __getattr__(name: str) -> Any:
    raise elsewhere.missing("relay.analysis", name, "analysis")
