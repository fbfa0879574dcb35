"""``relay.transform``: Relax has passes of its own; scripts mostly call the one below."""

from __future__ import annotations

import warnings
from typing import Any

import tvm

from tvm_vacc.errors import VaccWarning
from tvm_vacc.relay import elsewhere


def InferType() -> tvm.transform.Pass:  # noqa: N802 Relay's name
    """Return a pass that changes nothing: a Relax function has its types when it is made.

    Warns:
        VaccWarning: says so.
    """
    warnings.warn(
        "relay.transform.InferType does nothing: Relax knows the types of all expressions; "
        "leave it out",
        VaccWarning,
        stacklevel=2,
    )
    return tvm.transform.Sequential([], name="InferType")


def __getattr__(name: str) -> Any:
    raise elsewhere.missing("relay.transform", name, "transform")
