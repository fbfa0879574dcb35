"""The section `accuracy` of the YAML, as a frozen pydantic model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tvm_vacc.config.schema import UserPath
from tvm_vacc.config.section import Section
from tvm_vacc.limits import MAX_CONTEXT
from tvm_vacc.strict import RefusedError

DEFAULT_TOKENS = 256
"""Tokens: a thousandth of a nat shows, and GLM-4-9B in fp32 takes about half a minute for them."""


class Accuracy(Section):
    """`accuracy`: how the artefact's accuracy is measured; ``accuracy: false`` leaves it out.

    Attributes:
        tokens: of the text that are used; no more than the context.
        text: a UTF-8 text file that calibration does not use; without it, the package's own.
        tolerance: share by which `tvmc verify` may find it worse than stated.
    """

    tokens: int = Field(default=DEFAULT_TOKENS, ge=16, le=MAX_CONTEXT)
    text: UserPath | None = None
    tolerance: float = Field(default=0.05, ge=0, le=1)


def _section_or_false(value: Any) -> Any:
    if value is False:
        return None
    if not isinstance(value, (dict, Accuracy)):
        cure = "write accuracy: false, or a mapping such as {tokens: 256}"
        raise RefusedError("", f"must be false or a mapping, got {value!r:.40}", cure)
    return value


AccuracyOrFalse = Annotated[Accuracy | None, BeforeValidator(_section_or_false)]
"""None where the config says ``false``."""
