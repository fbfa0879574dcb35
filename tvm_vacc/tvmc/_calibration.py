"""What calibrated codes cost against rounding to nearest, as lines and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._report import print_table

if TYPE_CHECKING:
    from tvm_vacc.artifact.calibration import CalibratedWeight


def print_calibration(weights: Sequence[CalibratedWeight]) -> None:
    """Print the errors of all linears in two lines, and of each layer in a table."""
    worst = _worst(weights)
    click.echo(
        f"calibrated: {len(weights)} linears, mean error of their outputs {_mean(weights):.2%}, "
        f"rounded to nearest {_mean_rounded(weights):.2%}\nworst: {worst.name} {worst.error:.2%}, "
        f"rounded to nearest {worst.rounded:.2%}"
    )
    layers: dict[str, list[CalibratedWeight]] = {}
    for weight in weights:
        layers.setdefault(_layer(weight.name), []).append(weight)
    columns = ("in layer", "linears", "error", "rounded", "worst", "damping")
    rows = [
        (
            layer,
            str(len(inside)),
            f"{_mean(inside):.2%}",
            f"{_mean_rounded(inside):.2%}",
            f"{_worst(inside).error:.2%}",
            f"{max(weight.damping for weight in inside):g}",
        )
        for layer, inside in layers.items()
    ]
    print_table(columns, rows)


def _layer(name: str) -> str:
    """Return the number of the layer that a weight is in; its own name where it is in none."""
    return next((part for part in name.split(".") if part.isdigit()), name)


def _mean(weights: Sequence[CalibratedWeight]) -> float:
    return sum(weight.error for weight in weights) / len(weights)


def _mean_rounded(weights: Sequence[CalibratedWeight]) -> float:
    return sum(weight.rounded for weight in weights) / len(weights)


def _worst(weights: Sequence[CalibratedWeight]) -> CalibratedWeight:
    return max(weights, key=lambda weight: weight.error)
