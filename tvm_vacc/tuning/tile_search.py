"""Searches for better choices of one kernel of ours, from the default ones on, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from schedules.choices import Tiled, alternatives
from schedules.isa import Isa
from tvm_vacc.tile_records import Chosen, TileRecord, TileTrial, TokenTimes, mean_times
from tvm_vacc.tuning.interrupts import interrupt_held
from tvm_vacc.tuning_records import TuningRecords

SECONDS = 0.2
"""For timing choices beside the default ones, with each number of tokens."""

CONFIRMING_SECONDS = 0.6
"""The same before they are preferred: the luckiest of many looks better than it is."""

LEAST_TIMES = 1.03
"""Times as fast as the default that choices must be to be preferred: less is what measurements
scatter."""

LEAST_STEP = 1.01
"""Times as fast as the best before, for the same reason."""

MOST_LOSS = 0.97
"""Times as fast that no number of tokens may fall below, whatever the others gain."""


class Bench(Protocol):
    """What times choices: see `tvm_vacc.tuning.linear_bench` and `attention_bench`."""

    def compare(self, tiles: Chosen, seconds: float) -> tuple[TokenTimes, ...]:
        """Time the choices `tiles` against the default ones."""
        ...


def search_tiles(
    of: Tiled,
    isa: Isa,
    records: TuningRecords,
    bench: Bench,
    *,
    trials: int,
    early_stopping: int | None,
    report: Callable[[TileRecord, int], None],
) -> TuningRecords:
    """Measure choices until there are `trials` in the records, or none is left beside the best.

    Args:
        of: what the kernels are made for.
        isa: the instructions they may use.
        records: what is known already; what every trial finds is written there.
        bench: times choices.
        trials: choices to have measured in all.
        early_stopping: end after so many in a row without better ones; None: never.
        report: is told, before the first and after each, what is known and how many trials that
            will be in the end.
    """
    record = records.tiled.get(of, TileRecord(of))
    records = records.adding(record)
    idle = 0
    while True:
        left = list(_untried(record, isa))
        report(record, min(trials, record.trials + len(left)))
        if not left or record.trials >= trials or idle == early_stopping:
            return records
        with interrupt_held():
            tried, better = _measure(left[0], record, bench)
            idle = 0 if better else idle + 1
            record = replace(better or record, tried=(*record.tried, tried))
            records = records.adding(record)


def _measure(
    tiles: Chosen, record: TileRecord, bench: Bench
) -> tuple[TileTrial, TileRecord | None]:
    """Return what was measured of `tiles` and, where they are better, the record with them."""
    needed = max(LEAST_TIMES, record.times * LEAST_STEP)
    measured = bench.compare(tiles, SECONDS)
    if _is_better(measured, needed):
        measured = bench.compare(tiles, CONFIRMING_SECONDS)
    tried = TileTrial(tiles, mean_times(measured))
    if not _is_better(measured, needed):
        return tried, None
    return tried, replace(record, tiles=tiles, measured=measured)


def _is_better(measured: tuple[TokenTimes, ...], needed: float) -> bool:
    return mean_times(measured) >= needed and all(each.times >= MOST_LOSS for each in measured)


def _untried(record: TileRecord, isa: Isa) -> Iterator[Chosen]:
    """Yield what differs from the best choices in one, and was not measured."""
    seen = [trial.tiles for trial in record.tried]
    for name, values in alternatives(record.of, isa).items():
        for value in values:
            others = {key: kept for key, kept in record.tiles.items() if key != name}
            tiles = others if value == values[0] else {**others, name: value}
            if tiles and tiles != record.tiles and tiles not in seen:
                yield tiles
