"""The search without its clock: times are made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schedules.isa import AVX512_BF16
from schedules.tiles import Linear, alternatives
from tvm_vacc.target_string import make_target
from tvm_vacc.tile_records import Chosen, TileRecord, TokenTimes
from tvm_vacc.tuning.tile_search import CONFIRMING_SECONDS, SECONDS, search_tiles
from tvm_vacc.tuning_records import TuningRecords

LINEAR = Linear("bfloat16", 40, 64)
MAY_BE = alternatives(LINEAR, AVX512_BF16)
ALL = sum(len(values) - 1 for values in MAY_BE.values())
TARGET = make_target("tvm_vacc -mcpu=znver4")


@dataclass
class Bench:
    """Takes the place of `LinearBench`: a choice is as fast as the product of its parts.

    Attributes:
        parts: how many times as fast each value of a choice makes it, where it does.
        lucky: choices that only look so, once.
        prompt: times as fast that a prompt is, whatever the choices.
        asked: the choices, and the seconds.
    """

    parts: dict[tuple[str, int], float] = field(default_factory=dict)
    lucky: dict[tuple[str, int], float] = field(default_factory=dict)
    prompt: float = 1.0
    asked: list[tuple[Chosen, float]] = field(default_factory=list)

    def compare(self, tiles: Chosen, seconds: float) -> tuple[TokenTimes, ...]:
        self.asked.append((tiles, seconds))
        times = 1.0
        for part in tiles.items():
            times *= self.parts.get(part, 1.0) * self.lucky.pop(part, 1.0)
        return (TokenTimes(1, times, 1.0, times), TokenTimes(512, 1.0, 1.0, self.prompt))


def run(
    directory: Path, bench: Bench, trials: int = 100, early: int | None = None
) -> tuple[TileRecord, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    records = search_tiles(
        LINEAR,
        AVX512_BF16,
        TuningRecords.open_or_start(directory, TARGET),
        bench,
        trials=trials,
        early_stopping=early,
        report=lambda record, end: told.append((record.trials, end)),
    )
    assert TuningRecords.open(directory, TARGET) == records
    return records.tiled[LINEAR], told


def test_what_gains_nothing_leaves_the_default(tmp_path: Path) -> None:
    bench = Bench()
    record, told = run(tmp_path, bench)
    assert (record.tiles, record.measured, record.times) == ({}, (), 1.0)
    assert told == [(done, ALL) for done in range(ALL + 1)]
    assert [seconds for _, seconds in bench.asked] == [SECONDS] * ALL
    again = Bench()
    assert run(tmp_path, again) == (record, [(ALL, ALL)])
    assert again.asked == []


def test_choices_that_gain_are_joined(tmp_path: Path) -> None:
    rows, panel = MAY_BE["rows"][1], MAY_BE["panel_tiles"][2]
    parts = {("rows", rows): 1.21, ("panel_tiles", panel): 1.44}
    record, _ = run(tmp_path, Bench(parts))
    assert record.tiles == {"rows": rows, "panel_tiles": panel}
    assert record.times == pytest.approx(1.1 * 1.2)
    assert [each.tokens for each in record.measured] == [1, 512]


def test_luck_is_measured_again(tmp_path: Path) -> None:
    rows = MAY_BE["rows"][1]
    bench = Bench(lucky={("rows", rows): 1.5})
    record, _ = run(tmp_path, bench, trials=1)
    assert record.tiles == {}
    assert bench.asked == [({"rows": rows}, SECONDS), ({"rows": rows}, CONFIRMING_SECONDS)]


def test_answers_do_not_gain_at_the_expense_of_prompts(tmp_path: Path) -> None:
    record, _ = run(tmp_path, Bench({("rows", MAY_BE["rows"][1]): 2.0}, prompt=0.9))
    assert record.tiles == {}


def test_it_stops_where_nothing_is_better_and_goes_on_from_there(tmp_path: Path) -> None:
    first, _ = run(tmp_path, Bench(), early=2)
    assert first.trials == 2
    bench = Bench()
    record, told = run(tmp_path, bench, trials=4)
    assert record.trials == 4
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert record.tried[:2] == first.tried
    assert bench.asked[0][0] not in [trial.tiles for trial in first.tried]


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path) -> None:
    class Interrupted(Bench):
        def compare(self, tiles: Chosen, seconds: float) -> tuple[TokenTimes, ...]:
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().compare(tiles, seconds)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Interrupted())
    assert TuningRecords.open(tmp_path, TARGET).tiled[LINEAR].trials == 3
