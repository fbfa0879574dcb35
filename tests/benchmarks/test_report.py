from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report import FILES, filled, section_names, write_report
from benchmarks.results import DIRECTORY, write_results
from tests.benchmarks.made_up import (
    accuracy_results,
    compile_results,
    kernel_results,
    model_results,
)
from tvm_vacc.errors import ConfigError

PAGE = """# Title

<!-- benchmarks: one -->
old
<!-- benchmarks end -->
between
<!-- benchmarks: two -->
<!-- benchmarks end -->
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_results(kernel_results(), tmp_path / "results" / "one.json")
    write_results(compile_results(), tmp_path / "results" / "two.json")
    return tmp_path / "results"


def test_sections_are_made_of_results(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(PAGE)
    assert write_report(results, (page,)) == [page]
    text = page.read_text()
    assert "old" not in text
    assert "between" in text
    assert "| rms_norm | 1 x 4096 | 2 ms | 1.5 | 2.5 | memory | 0.90 (0.90 to 0.90) |" in text
    assert "a \\| b" in text
    assert "reading 0.0 GB/s" in text
    assert "| copying / compiling | 0.40 |  |  |" in text
    assert "| copying / weights alone | 0.50 |  |  |" in text
    assert "![one](results/one.svg)" in text
    assert (results / "one.svg").is_file()
    assert write_report(results, (page,)) == []


def test_models_are_shown_with_their_ratios(tmp_path: Path) -> None:
    write_results(model_results(), tmp_path / "one.json")
    page = "<!-- benchmarks: one -->\n<!-- benchmarks end -->"
    text = filled(page, tmp_path, tmp_path)
    assert "| ours | decode | 1 x 4096 | 2 | memory | 0.90 (0.90 to 0.90) |  |" in text
    assert "| theirs | prefill | 1 x 4096 | 200 |" in text
    assert "1.50 (1.50 to 1.50) |" in text
    assert "| 1.00 GB | 100 MB | 10 MB |" in text


def test_accuracy_is_shown_with_its_reference(tmp_path: Path) -> None:
    write_results(accuracy_results(), tmp_path / "one.json")
    page = "<!-- benchmarks: one -->\n<!-- benchmarks end -->"
    text = filled(page, tmp_path, tmp_path)
    row = "| them q8 | 2.00 GB | 0.5 kB | 3.00e-04 | 1.25e-03 | 98.50% | 12.5000 | mode x (x 1) |"
    assert row in text
    assert "a model, 1130 tokens: 9 windows of a text" in text
    assert "whose perplexity is 12.2500" in text


def test_a_missing_result_is_one_line(tmp_path: Path) -> None:
    page = tmp_path / "PAGE.md"
    page.write_text(PAGE)
    with pytest.raises(ConfigError, match=r"PAGE\.md: .*one\.json"):
        write_report(tmp_path, (page,))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_what_is_published_is_what_the_command_makes(file: Path) -> None:
    text = file.read_text("utf-8")
    assert filled(text, DIRECTORY, file.parent) == text


def test_every_kept_result_is_published() -> None:
    shown = {name for file in FILES for name in section_names(file.read_text("utf-8"))}
    assert shown == {path.stem for path in DIRECTORY.glob("*.json")}
