"""`python -m benchmarks report`: the README's tables and charts, out of the results."""

from __future__ import annotations

import click


@click.command()
def report() -> None:
    """Draw the charts and fill the tables of README.md and benchmarks/README.md.

    Everything comes from benchmarks/results; nothing is typed.
    """
    from benchmarks.report import write_report

    for file in write_report():
        click.echo(f"changed: {file}")
