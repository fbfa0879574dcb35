"""What a manifest says of weights whose codes were calibrated."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class CalibratedWeight:
    """One linear, and what its codes cost on the calibration text.

    Errors are those of its output, the norm of the difference over the norm, for the inputs that
    it has behind the quantised linears before it.

    Attributes:
        name: of the weight in the checkpoint.
        error: with the codes that were chosen.
        rounded: with every weight rounded to the nearest code instead.
        damping: what the Hessian needed, as a share of its mean diagonal.
    """

    name: str
    error: NotNegative
    rounded: NotNegative
    damping: NotNegative
