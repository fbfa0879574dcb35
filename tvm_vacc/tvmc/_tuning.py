"""What `tvmc tune` shows: the tasks, how far it is, and what was gained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tvm_vacc.tvmc._report import print_table

if TYPE_CHECKING:
    from tvm_vacc.tuning.gain import Gain
    from tvm_vacc.tuning.progress import Record, TuningProgress
    from tvm_vacc.tuning.tasks import Tasks
    from tvm_vacc.tuning.tune import Tuned


def print_tasks(found: Tasks) -> None:
    """Print what can be tuned, with the numbers that --tasks takes."""
    from tvm_vacc.tuning.tasks import Kernel

    rows = [
        (
            str(number),
            kernel.name,
            "schedule" if isinstance(kernel, Kernel) else "tiles",
            str(kernel.calls),
            f"{kernel.operations / 1e6:.2f}",
        )
        for number, kernel in enumerate(found.kernels)
    ]
    print_table(("task", "kernel", "what is tuned", "calls", "MFLOP a call"), rows)
    tell_open(found)


def tell_open(found: Tasks) -> None:
    """Say how many kernels cannot be tuned, and how they can."""
    if found.open_kernels:
        click.echo(
            f"Note: {found.open_kernels} kernels that TVM schedules have dimensions that the model "
            "leaves open, and cannot be tuned; --input-shapes makes those of a graph known",
            err=True,
        )


def show_progress(progress: TuningProgress) -> None:
    """Print how far it is."""
    from tvm_vacc.tile_records import TileRecord

    record = progress.record
    parts = [
        f"[{progress.task}/{progress.tasks}] {record.name}",
        f"trial {record.trials}/{progress.trials}",
    ]
    if isinstance(record, TileRecord):
        if record.tiles:
            parts.append(f"best {record.times:.2f} times as fast")
    else:
        parts.append(f"untuned {record.untuned * 1e6:.1f} us")
        if record.best is not None:
            parts.append(f"best {record.best * 1e6:.1f} us")
    if progress.left:
        minutes, seconds = divmod(round(progress.left), 60)
        parts.append(f"{minutes} min {seconds:02} s left" if minutes else f"{seconds} s left")
    click.echo(", ".join(parts), err=True)


def print_gains(tuned: Tuned) -> None:
    """Print what each kernel has gained by itself, and the model as a whole."""
    rows = [row for record in tuned.kernels for row in _gain_rows(record)]
    print_table(("kernel alone", "trials", "untuned", "best", "times as fast"), rows)
    for choice in tuned.records.tiles:
        if choice.of in {getattr(record, "of", None) for record in tuned.kernels}:
            click.echo(str(choice))
    for gain in tuned.gains:
        click.echo(gain_line(gain))


def _gain_rows(record: Record) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a table that tell of one kernel: of one of ours, one a size of calls."""
    from tvm_vacc.tile_records import TileRecord

    trials = str(record.trials)
    if not isinstance(record, TileRecord):
        best = "none ran" if record.best is None else f"{record.best * 1e6:.1f} us"
        gain = f"{record.times:.2f}" if record.times > 1 else "no gain"
        yield record.name, trials, f"{record.untuned * 1e6:.1f} us", best, gain
    elif not record.tiles:
        yield record.name, trials, "-", "-", "no gain"
    else:
        for times in record.measured:
            tokens = f"{times.tokens} token{'s' if times.tokens > 1 else ''}"
            tokens += f" of {times.context}" if times.context else ""
            seconds = (f"{value * 1e6:.1f} us" for value in (times.untuned, times.tuned))
            yield f"{record.name}, {tokens}", trials, *seconds, f"{times.times:.2f}"


def gain_line(gain: Gain) -> str:
    """Return what the model has gained, in one line."""
    return (
        f"The model, a {gain.what}, timed in turn: {gain.untuned * 1e3:.3f} ms without the "
        f"records, {gain.tuned * 1e3:.3f} ms with them: {gain.times:.2f} times as fast."
    )
