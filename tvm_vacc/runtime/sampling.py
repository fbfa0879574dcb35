"""Sampling parameters of one request, checked before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_vacc.errors import RequestError


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most probable token.
        top_p: probability mass the draw is limited to, in (0, 1].
        top_k: number of tokens the draw is limited to; 0 means all.
        seed: of the random numbers; None draws a fresh one.

    Raises:
        RequestError: a value out of its range; the message names it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise RequestError(f"temperature is {self.temperature}", "give a number >= 0")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top_p is {self.top_p}", "give a number > 0 and <= 1")
        if self.top_k < 0:
            raise RequestError(f"top_k is {self.top_k}", "give a whole number >= 0; 0 means all")
        if self.seed is not None and self.seed < 0:
            raise RequestError(f"seed is {self.seed}", "give a whole number >= 0")
