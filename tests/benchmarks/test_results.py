from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.results import DIRECTORY, Limits, Results, read_results, write_results
from tests.benchmarks.made_up import (
    SPEEDS,
    accuracy_results,
    compile_results,
    kernel_results,
    model_results,
)
from tvm_vacc.errors import ConfigError
from tvm_vacc.machine.speeds import Speeds


@pytest.mark.parametrize("make", [kernel_results, model_results, compile_results, accuracy_results])
def test_what_is_written_is_read(make: Callable[[], Results], tmp_path: Path) -> None:
    write_results(make(), tmp_path / "new" / "r.json")
    assert read_results(tmp_path / "new" / "r.json") == make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "kind"),
        ({"rows": [{"name": "x"}]}, "rows"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_other_files_are_one_line(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_results(kernel_results(), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=f"r.json.*{message}"):
        read_results(path)


def test_limits_are_summed_up() -> None:
    faster = Speeds(300.0, {"fp32": 30.0, "int8": 40.0})
    limits = Limits.of([SPEEDS, faster])
    assert (limits.read.median, limits.peaks["fp32"].median) == (200.0, 20.0)
    assert limits.peaks["int8"].median == 40.0


def test_kept_results_can_be_read() -> None:
    for path in DIRECTORY.glob("*.json"):
        read_results(path)
