"""Charts of results, drawn by matplotlib: .svg or .png, as the file's name says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import KernelResults, ModelResults, ModelRow
from tvm_vacc.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 9.0
"""Inches of every chart."""

ROW_HEIGHT = 0.22
"""Inches of a bar."""

PANEL_HEIGHT = 3.2
"""Inches of a curve."""


def draw_kernels(results: KernelResults, path: Path) -> None:
    """Draw each kernel's fraction of the limit that binds it: medians, and quartiles as lines.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = results.rows[::-1]
    figure = _figure(1 + ROW_HEIGHT * len(rows))
    axes = figure.subplots()
    colours = {limit: f"C{index}" for index, limit in enumerate(sorted({r.limit for r in rows}))}
    for place, row in enumerate(rows):
        part = row.fraction
        spread = [[part.median - part.low], [part.high - part.median]]
        axes.barh(place, part.median, xerr=spread, color=colours[row.limit], ecolor="0.4")
    axes.set_yticks(range(len(rows)), [f"{row.name}  {row.shape}" for row in rows], fontsize=7)
    axes.set_xlabel("fraction of the limit measured in the same run")
    axes.set_xlim(0, 1.05)
    handles = [axes.barh(0, 0, color=colour) for colour in colours.values()]
    axes.legend(handles, list(colours), title="limit")
    _save(figure, path)


def draw_model(results: ModelResults, path: Path) -> None:
    """Draw how speed and cost grow with context, batch and prompt, one curve a system.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels = [panel for panel in _PANELS if _points(results, panel[3])]
    figure = _figure(PANEL_HEIGHT * -(-len(panels) // 2))
    for index, (label, unit, value, chosen) in enumerate(panels, start=1):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, index)
        for system in results.systems:
            rows = [row for row in _points(results, chosen) if row.system == system.name]
            at = [_PLACES[label](row) for row in rows]
            axes.plot(at, [value(row) for row in rows], "o-", markersize=3, label=system.name)
        _finish(axes, label, unit)
    _save(figure, path)


def _is_context(row: ModelRow) -> bool:
    return row.work == "decode" and row.batch == 1


def _is_batch(row: ModelRow) -> bool:
    return row.work == "decode" and not _is_context(row)


def _is_prompt(row: ModelRow) -> bool:
    return row.work == "prefill"


_PLACES: dict[str, Callable[[ModelRow], int]] = {
    "context": lambda row: row.context,
    "sequences": lambda row: row.batch,
    "tokens of the prompt": lambda row: row.tokens,
}

_PANELS: Sequence[tuple[str, str, Callable[[ModelRow], float], Callable[[ModelRow], bool]]] = (
    ("context", "ms a token", lambda row: row.row.seconds.median * 1e3, _is_context),
    ("context", "fraction of the limit", lambda row: row.row.fraction.median, _is_context),
    ("sequences", "tokens/s in all", lambda row: row.tokens_per_second, _is_batch),
    ("tokens of the prompt", "tokens/s", lambda row: row.tokens_per_second, _is_prompt),
)
"""Horizontal axis, vertical axis, its value, and the rows of a panel."""


def _points(results: ModelResults, chosen: Callable[[ModelRow], bool]) -> list[ModelRow]:
    return [row for row in results.rows if chosen(row)]


def _finish(axes: Axes, label: str, unit: str) -> None:
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _figure(height: float) -> Figure:
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the package matplotlib is not installed", 'run: pip install "tvm-vacc[bench]"'
        ) from error
    # The same results make the same file, and texts stay texts.
    rcParams["svg.hashsalt"] = "tvm_vacc"
    rcParams["svg.fonttype"] = "none"
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=150, metadata=metadata)
