"""What `tvmc tune` has measured of the choices that kernels of ours leave open.

The choices themselves, and what they may be, stand in `schedules.tiles` and
`schedules.attention_tiles`.
"""

from __future__ import annotations

import statistics
from dataclasses import field

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from schedules.choices import Tiled

_STRICT = ConfigDict(extra="forbid", strict=True)

Chosen = dict[str, int]
"""What is chosen otherwise than by default, by name; empty: nothing."""


@dataclass(frozen=True, config=_STRICT)
class TokenTimes:
    """What calls of one size take, timed in turn.

    Attributes:
        tokens: of a call.
        untuned: least seconds by the default choices.
        tuned: least seconds by the others.
        ratio: how many times as fast the others are: the median over the rounds.
        context: positions that each of them sees, at most; 0 for a linear, which sees none.
    """

    tokens: int
    untuned: float
    tuned: float
    ratio: float
    context: int = 0

    @property
    def times(self) -> float:
        """How many times as fast the others are by both: one may be luck, the other noise."""
        return min(self.ratio, self.untuned / self.tuned)


@dataclass(frozen=True, config=_STRICT)
class TileTrial:
    """Choices that were measured.

    Attributes:
        tiles: which.
        times: how many times as fast as the default ones, the mean over the numbers of tokens.
    """

    tiles: Chosen
    times: float


@dataclass(frozen=True, config=_STRICT)
class TileRecord:
    """All that was measured of one kernel.

    Attributes:
        of: what it is made for.
        tiles: the best choices; empty: the default ones.
        measured: of these, in a measurement that took no part in the choice.
        tried: all others that were measured, in order.
    """

    of: Tiled
    tiles: Chosen = field(default_factory=dict)
    measured: tuple[TokenTimes, ...] = ()
    tried: tuple[TileTrial, ...] = ()

    @property
    def name(self) -> str:
        """What the kernel is called."""
        return str(self.of)

    @property
    def trials(self) -> int:
        """How many choices were measured."""
        return len(self.tried)

    @property
    def times(self) -> float:
        """How many times as fast the kernel becomes; 1 where its default choices stay."""
        return mean_times(self.measured) if self.tiles else 1.0


def mean_times(measured: tuple[TokenTimes, ...]) -> float:
    """Return the geometric mean of how many times as fast calls become."""
    return statistics.geometric_mean([each.times for each in measured])
