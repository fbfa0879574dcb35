"""What `tvmc run` prints of a run: times, and the largest values of an output."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np


def print_time_summary(times: Sequence[float], number: int) -> None:
    """Print mean, median, extremes and deviation of seconds, each the mean of `number` runs."""
    values = {
        "mean": statistics.fmean(times),
        "median": statistics.median(times),
        "min": min(times),
        "max": max(times),
        "std": statistics.pstdev(times),
    }
    text = ", ".join(f"{name} {seconds * 1e3:.3f} ms" for name, seconds in values.items())
    each = f", each of {number} in a row" if number > 1 else ""
    click.echo(f"{text} of {len(times)} runs{each}")


def print_top_values(array: np.ndarray, count: int) -> None:
    """Print the `count` largest values of an array, with their indices, one a line."""
    import numpy as np

    flat = array.reshape(-1)
    # A stable order: of equal values the first comes first, whatever their number.
    order = np.argsort(-flat.astype(np.float64), kind="stable")[:count]
    for place in order:
        index = ", ".join(map(str, np.unravel_index(place, array.shape))) if array.ndim else ""
        click.echo(f"  [{index}] {flat[place]}")
