from __future__ import annotations

import io

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
