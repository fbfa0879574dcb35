from __future__ import annotations

import io
import re

from rich.console import Console

from tvm_vacc.progress import Progress
from tvm_vacc.tvmc import _progress
from tvm_vacc.tvmc._progress import show_progress


def shown(is_terminal: bool, steps: list[Progress]) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=100)
    with show_progress(console) as progress:
        for step in steps:
            progress(step)
    return text.getvalue()


def test_bars_show_phase_amount_and_time_left() -> None:
    steps = [Progress("weights", done, 4_000_000, "bytes") for done in (0, 2_000_000, 4_000_000)]
    text = shown(True, [Progress("export", 1, 1, "graphs"), *steps])
    assert "export" in text
    assert "1/1 graphs" in text
    assert "4.0 MB/4.0 MB" in text
    assert "0:00:00" in text


def test_plain_lines_are_few(monkeypatch) -> None:
    steps = [Progress("passes", done, 1000, "passes") for done in range(1001)]
    assert shown(False, steps) == "passes: 0/1000 passes\npasses: 1000/1000 passes\n"
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert shown(False, steps).count("\n") == 1001


def test_no_bars_where_nothing_is_done() -> None:
    assert shown(False, []) == ""


def test_bytes_have_a_speed_and_an_end_apart_from_what_was_there(monkeypatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(_progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_LINES", 0.0)
    steps = [
        Progress("weights", 0, 10_000_000, "bytes", "0/3 weights"),
        Progress("weights", 4_000_000, 10_000_000, "bytes", "1/3 weights", 4_000_000),
        Progress("weights", 7_000_000, 10_000_000, "bytes", "2/3 weights", 4_000_000),
        Progress("weights", 10_000_000, 10_000_000, "bytes", "3/3 weights", 4_000_000),
    ]
    lines = shown(False, steps).splitlines()
    assert lines[:2] == [
        "weights: 0 bytes/10.0 MB, 0/3 weights",
        "weights: 4.0 MB/10.0 MB, 1/3 weights",
    ]
    assert re.fullmatch(r"weights: 7.0 MB/10.0 MB, 2/3 weights, [\d.]+ kB/s, \d+ s left", lines[2])
    assert re.fullmatch(r"weights: 10.0 MB/10.0 MB, 3/3 weights, [\d.]+ kB/s", lines[3])
