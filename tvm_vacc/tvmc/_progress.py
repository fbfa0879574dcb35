"""Shows how far a compile has come: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tvm_vacc.progress import Progress

SECONDS_BETWEEN_LINES = 5.0
"""A log that nobody watches needs no more."""

_TIMED = ("bytes", "layers")
"""Units that take equal times, so that what is left can be told."""


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield the function that takes a compile's `Progress` and shows it on `console`."""
    if not console.is_terminal:
        yield _PlainLines(console).show
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    # Redirected text appears above the bars; into a file it must go as it is.
    with Bars(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bars:
        tasks = {}
        rates = _Rates()

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, amount="")
            bars.update(
                tasks[progress.phase],
                completed=progress.done,
                total=progress.total,
                amount=format_amount(progress, rates.rate(progress)),
            )

        yield show


def format_amount(progress: Progress, rate: float | None = None) -> str:
    """Return what is done of how much: ``3/14 passes``, ``1.2 GB/18.8 GB, 0.9 GB/s``.

    Args:
        progress: of a phase.
        rate: units a second; None where it is not known yet.
    """
    if progress.unit != "bytes":
        return f"{progress.done}/{progress.total} {progress.unit}"
    parts = [f"{decimal(progress.done)}/{decimal(progress.total)}"]
    if progress.note:
        parts.append(progress.note)
    if rate:
        parts.append(f"{decimal(int(rate))}/s")
    return ", ".join(parts)


def format_left(progress: Progress, rate: float | None) -> str:
    """Return the time that is left, after a comma; nothing where it is not known."""
    if not rate or progress.unit not in _TIMED or progress.done == progress.total:
        return ""
    minutes, seconds = divmod(round((progress.total - progress.done) / rate), 60)
    return f", {minutes} min {seconds:02} s left" if minutes else f", {seconds} s left"


class _Rates:
    """Units a second of the phase that runs, apart from what was there already."""

    def __init__(self) -> None:
        self._phase = ""
        self._start = 0.0

    def rate(self, progress: Progress) -> float | None:
        now = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._start = progress.phase, now
        worked = progress.done - progress.skipped
        return worked / (now - self._start) if worked and now > self._start else None


class _PlainLines:
    """One line at the begin and the end of a phase, and every few seconds between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rates = _Rates()
        self._phase = ""
        self._shown = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        self._rates.rate(progress)  # its clock starts with the phase
        is_due = now - self._shown >= SECONDS_BETWEEN_LINES
        if progress.phase != self._phase or progress.done == progress.total or is_due:
            rate = self._rates.rate(progress)
            line = f"{progress.phase}: {format_amount(progress, rate)}{format_left(progress, rate)}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
            self._phase, self._shown = progress.phase, now
