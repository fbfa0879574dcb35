"""A measured quantity: its median, and the quartiles round it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Many samples of one quantity.

    Attributes:
        median: half of the samples are below it.
        low: first quartile.
        high: third quartile.
        samples: how many there were.
    """

    median: float
    low: float
    high: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Return median and quartiles of at least one sample."""
        low, median, high = np.quantile(np.asarray(samples, np.float64), (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high), len(samples))
