"""`python -m benchmarks kernels`: every kernel against the limit that binds it."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.commands._options import (
    arguments,
    json_option,
    plot_option,
    rounds_option,
    target_option,
    threads_option,
)


@click.command()
@click.option(
    "--only", metavar="NAME", multiple=True, help="Measure this kernel; may be given several times."
)
@target_option
@threads_option
@rounds_option
@json_option
@plot_option
def kernels(
    only: tuple[str, ...],
    target: str,
    threads: int | None,
    rounds: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure the kernels at GLM-4-9B's shapes, and the limits before, between and after.

    \b
    Example:
      python -m benchmarks kernels --only rms_norm --only swiglu --threads 2
    """
    from benchmarks import results, tables
    from benchmarks.kernels import kernel_cases
    from benchmarks.machine import describe_run
    from benchmarks.measure import measure
    from tvm_vacc.machine.limits import Limits
    from tvm_vacc.machine.setup import Setup

    setup = Setup.make(target, threads)
    run = describe_run(arguments(), str(setup.target), setup.threads)
    cases = kernel_cases(setup, only)
    limits = Limits(setup)
    rows = []
    for case in cases:
        rows.append(measure(case, limits, rounds))
        click.echo(tables.kernel_line(rows[-1]))
    measured = results.KernelResults(run, results.Limits.of(limits.history), tuple(rows))
    click.echo(f"limits: {tables.limits_text(measured.limits)}")
    if json_file:
        results.write_results(measured, json_file)
    if plot_file:
        from benchmarks.charts import draw_kernels

        draw_kernels(measured, plot_file)
