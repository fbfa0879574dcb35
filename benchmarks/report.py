"""Makes the tables and charts in Markdown files out of results.

A file asks for a table by two comments, between which everything is replaced:

    <!-- benchmarks: NAME -->
    <!-- benchmarks end -->

where NAME is a file in ``benchmarks/results``, without its ``.json``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from benchmarks import tables
from benchmarks.charts import draw_kernels, draw_model
from benchmarks.machine import Run
from benchmarks.results import (
    DIRECTORY,
    AccuracyResults,
    CompileResults,
    KernelResults,
    ModelResults,
    Results,
    read_results,
)
from tvm_vacc.errors import ConfigError

ROOT = Path(__file__).parents[1]

FILES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
"""Markdown files that show results."""

_SECTION = re.compile(
    r"(?P<begin><!-- benchmarks: (?P<name>[\w.-]+) -->\n).*?(?P<end><!-- benchmarks end -->)",
    re.DOTALL,
)


def filled(text: str, directory: Path, place: Path) -> str:
    """Return `text` with every section made anew.

    Args:
        text: of a Markdown file.
        directory: of the results.
        place: directory of the Markdown file, for the links to charts.

    Raises:
        ConfigError: a result is missing or damaged.
    """

    def section(match: re.Match[str]) -> str:
        name = match["name"]
        body = section_text(read_results(directory / f"{name}.json"))
        if (chart := directory / f"{name}.svg").is_file():
            link = os.path.relpath(chart, place)
            body += f"\n\n![{name}]({link})"
        return f"{match['begin']}{body}\n{match['end']}"

    return _SECTION.sub(section, text)


def section_names(text: str) -> list[str]:
    """Return the names of the results that `text` shows."""
    return [match["name"] for match in _SECTION.finditer(text)]


def draw(directory: Path) -> None:
    """Draw the chart of every result in `directory` that has one, beside it.

    Raises:
        ConfigError: a result is damaged.
        MissingExtraError: matplotlib is not installed.
    """
    for path in sorted(directory.glob("*.json")):
        results = read_results(path)
        if isinstance(results, KernelResults):
            draw_kernels(results, path.with_suffix(".svg"))
        elif isinstance(results, ModelResults):
            draw_model(results, path.with_suffix(".svg"))


def section_text(results: Results) -> str:
    """Return what a Markdown file says of `results`: how measured, the limits, the table."""
    parts = [_origin(results.run)]
    if isinstance(results, CompileResults):
        parts += [f"{results.model}: {tables.memory_text(results.written_bytes)} written."]
        parts += [tables.markdown(tables.PHASE_COLUMNS, tables.phase_rows(results))]
        return "\n\n".join(parts)
    if isinstance(results, AccuracyResults):
        parts += [
            f"{results.model}, {results.tokens} tokens: {results.text}, the first half of each as "
            "a prompt, the rest token by token. KL divergence in nats from transformers in fp32, "
            f"whose perplexity is {results.reference_perplexity:.4f}."
        ]
        rows = [tables.accuracy_cells(row) for row in results.rows]
        return "\n\n".join([*parts, tables.markdown(tables.ACCURACY_COLUMNS, rows)])
    parts.append(f"Limits in this run: {tables.limits_text(results.limits)}.")
    if isinstance(results, KernelResults):
        rows = [tables.kernel_cells(row) for row in results.rows]
        return "\n\n".join([*parts, tables.markdown(tables.KERNEL_COLUMNS, rows)])
    parts.append(tables.markdown(tables.SYSTEM_COLUMNS, map(tables.system_cells, results.systems)))
    parts.append(tables.markdown(tables.MODEL_COLUMNS, map(tables.model_cells, results.rows)))
    return "\n\n".join(parts)


def write_report(directory: Path = DIRECTORY, files: tuple[Path, ...] = FILES) -> list[Path]:
    """Draw all charts and fill all files; return those files that changed.

    Raises:
        ConfigError: a result is missing or damaged.
        MissingExtraError: matplotlib is not installed.
    """
    draw(directory)
    changed = []
    for file in files:
        before = file.read_text("utf-8")
        try:
            after = filled(before, directory, file.parent)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error.message}", error.cure) from error
        if after != before:
            file.write_text(after, "utf-8")
            changed.append(file)
    return changed


def _origin(run: Run) -> str:
    machine = run.machine
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return (
        f"`{run.command}`, {run.started[:10]}, on {machine.cores} cores of {machine.cpu} "
        f"({tables.memory_text(machine.memory)}), {run.threads} threads; {versions}."
    )
