"""How GPTQ is to choose codes: what a config may say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CalibrationOptions:
    """The keys of `frontend.quantize` that calibration needs.

    Attributes:
        damping: share of the Hessian's mean diagonal that is added to it.
        true_sequential: calibrate each projection on the output of the quantised ones before it.
        act_order: choose the codes of the inputs first that weigh most.
        device: where the arithmetic runs, as torch names it.
    """

    damping: float = 0.01
    true_sequential: bool = True
    act_order: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class CodesWanted:
    """Which linears are to be quantised, and onto which grid.

    Attributes:
        bits: of the linears inside the layers.
        group_size: inputs that share a scale, where `bits` is 4.
        head: whether the head is quantised, too: in 8 bits.
    """

    bits: Literal[4, 8]
    group_size: int
    head: bool
