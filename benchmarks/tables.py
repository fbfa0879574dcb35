"""Figures as text: lines for a terminal, Markdown tables for the README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from benchmarks.measure import Row
from benchmarks.results import AccuracyRow, CompileResults, Limits, ModelRow, System
from benchmarks.spread import Spread

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def seconds_text(seconds: float) -> str:
    """Return three digits and the unit: ``12.3 us``."""
    scale, unit = next((pair for pair in _SECONDS if seconds >= pair[0]), _SECONDS[-1])
    return f"{seconds / scale:.3g} {unit}"


def giga_text(speed: float) -> str:
    """Return a speed in thousand millions a second: three digits, or none for nothing."""
    return f"{speed / 1e9:.3g}" if speed else ""


def spread_text(fraction: Spread) -> str:
    """Return a median and its quartiles: ``0.97 (0.95 to 0.98)``."""
    return f"{fraction.median:.2f} ({fraction.low:.2f} to {fraction.high:.2f})"


KERNEL_COLUMNS = ("kernel", "shape", "time", "GB/s", "GOPS", "limit", "fraction of it")


def kernel_cells(row: Row) -> tuple[str, ...]:
    """Return the cells of `KERNEL_COLUMNS`."""
    return (
        row.name,
        row.shape,
        seconds_text(row.seconds.median),
        giga_text(row.bytes / row.seconds.median),
        giga_text(row.operations / row.seconds.median),
        row.limit,
        spread_text(row.fraction),
    )


def kernel_line(row: Row) -> str:
    """Return one line for a terminal."""
    return _line(kernel_cells(row), (14, 46, 9, 6, 6, 7))


def limits_text(limits: Limits) -> str:
    """Return what the machine could do during a run."""
    peaks = ", ".join(
        f"{unit} {peak.median / 1e9:.0f} GOPS" for unit, peak in sorted(limits.peaks.items())
    )
    return (
        f"reading {limits.read.median / 1e9:.1f} GB/s "
        f"({limits.read.low / 1e9:.1f} to {limits.read.high / 1e9:.1f}); {peaks}"
    )


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def model_cells(row: ModelRow) -> tuple[str, ...]:
    """Return the cells of `MODEL_COLUMNS`."""
    return (
        row.system,
        row.work,
        row.row.shape,
        f"{row.tokens_per_second:.4g}",
        row.row.limit,
        spread_text(row.row.fraction),
        spread_text(row.ratio) if row.ratio else "",
    )


def model_line(row: ModelRow) -> str:
    """Return one line for a terminal."""
    return _line(model_cells(row), (26, 8, 24, 8, 7, 22))


def memory_text(nbytes: int) -> str:
    """Return thousand millions of bytes: ``9.40 GB``, or millions, three digits: ``7.36 MB``."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 999.5e6 else f"{nbytes / 1e6:.3g} MB"


def system_line(system: System) -> str:
    """Return what a system took to start, and its memory."""
    memory = ", ".join(f"{name} {memory_text(size)}" for name, size in system.memory.items())
    return (
        f"{system.name}: ready after {seconds_text(system.ready_seconds.median)}, first token "
        f"after {seconds_text(system.first_seconds.median)} more; memory: {memory}"
    )


MODEL_COLUMNS = ("system", "work", "sizes", "tokens/s", "limit", "fraction of it", "times our time")


SYSTEM_COLUMNS = (
    "system",
    "settings",
    "weights a step",
    "KV a position",
    "ready after",
    "first token after",
    "memory: weights",
    "KV",
    "rest",
)


def system_cells(system: System) -> tuple[str, ...]:
    """Return the cells of `SYSTEM_COLUMNS`."""
    return (
        system.name,
        _settings_text(system),
        memory_text(system.weight_bytes),
        f"{system.position_bytes / 1e3:.1f} kB",
        seconds_text(system.ready_seconds.median),
        seconds_text(system.first_seconds.median),
        *(memory_text(system.memory[part]) for part in ("weights", "kv", "rest")),
    )


PHASE_COLUMNS = ("phase", "time", "peak of own memory", "mapped files included")


def phase_rows(results: CompileResults) -> list[tuple[str, ...]]:
    """Return the cells of `PHASE_COLUMNS`: the phases, all of them, and the plain copy."""
    rows = [
        (p.name, seconds_text(p.seconds), memory_text(p.anonymous), memory_text(p.resident))
        for p in results.phases
    ]
    whole = sum(phase.seconds for phase in results.phases)
    highest = max(phase.anonymous for phase in results.phases)
    resident = max(phase.resident for phase in results.phases)
    copy = results.copy_seconds.median
    weights = sum(phase.seconds for phase in results.phases if phase.name == "weights")
    return [
        *rows,
        ("all", seconds_text(whole), memory_text(highest), memory_text(resident)),
        ("copying the same bytes", seconds_text(copy), "", ""),
        ("copying / compiling", f"{copy / whole:.2f}", "", ""),
        ("copying / weights alone", f"{copy / weights:.2f}", "", ""),
    ]


ACCURACY_COLUMNS = (
    "system",
    "weights a step",
    "KV a position",
    "mean KL",
    "99th percentile",
    "same first token",
    "perplexity",
    "settings",
)


def accuracy_cells(row: AccuracyRow) -> tuple[str, ...]:
    """Return the cells of `ACCURACY_COLUMNS`."""
    return (
        row.system,
        memory_text(row.weight_bytes),
        f"{row.position_bytes / 1e3:.1f} kB",
        f"{row.kl_mean:.2e}",
        f"{row.kl_p99:.2e}",
        f"{row.top1:.2%}",
        f"{row.perplexity:.4f}",
        _settings_text(row),
    )


def accuracy_line(row: AccuracyRow) -> str:
    """Return one line for a terminal."""
    return _line(accuracy_cells(row)[:-1], (36, 8, 8, 9, 9, 8))


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(_line(line, widths) for line in lines)


def _settings_text(system: System | AccuracyRow) -> str:
    """Return what a system was told, and the versions of its distributions."""
    versions = ", ".join(f"{name} {version}" for name, version in system.versions.items())
    return f"{system.settings} ({versions})"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells, filled up to the widths; the last one may have none."""
    padded = [f"{cell:<{width}}" for cell, width in zip_longest(cells, widths, fillvalue=0)]
    return "  ".join(padded).rstrip()
