"""Tables on standard output: what the passes did, what an artefact holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

if TYPE_CHECKING:
    from tvm_vacc.artifact.manifest import PassReport, StoredWeights


def print_passes(passes: Sequence[PassReport]) -> None:
    """Print the pass report: which pass matched how often, in what time, and what it notes."""
    rows = [
        (
            report.name,
            str(report.matches),
            "any" if report.expected is None else str(report.expected),
            f"{report.seconds:.2f} s",
        )
        for report in passes
    ]
    print_table(("pass", "matches", "expected", "time"), rows)
    for report in passes:
        if report.note:
            _console().print(f"{report.name}: {report.note}")


def print_storage(storage: Iterable[StoredWeights]) -> None:
    """Print what the weights are stored as, by kind."""
    columns = ("weights", "stored as", "quantizer", "group", "matrices", "numbers", "size", "bits")
    rows = [
        (
            stored.kind,
            stored.stored_as,
            stored.quantizer or "-",
            str(stored.group_size or "-"),
            str(stored.matrices),
            f"{stored.weights:,}",
            decimal(stored.bytes),
            f"{stored.bits:.2f}",
        )
        for stored in storage
    ]
    print_table(columns, rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: its first column to the left, the others, numbers, to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line; a value that is None is left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            _console().print(f"{name:<{width}}  {value}")


def _console() -> Console:
    # Text from files is no markup. Lines are as long as they are, so that they can be copied and
    # searched: neither broken nor cut at the terminal's width.
    return Console(markup=False, highlight=False, soft_wrap=True, emoji=False, width=1000)
