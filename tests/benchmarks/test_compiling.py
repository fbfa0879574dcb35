from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compiling import (
    compile_by_phase,
    compile_in_subprocess,
    copy_seconds,
    median_phases,
)
from benchmarks.results import Phase
from tvm_vacc import compiler
from tvm_vacc.errors import ConfigError
from tvm_vacc.progress import Progress

LARGE = 256 << 20


def test_each_phase_has_its_own_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(_model: Any, *, progress: Any, **_options: Any) -> None:
        progress(Progress("export", 0, 1, "layers"))
        memory = np.ones(LARGE, np.uint8)
        progress(Progress("export", 1, 1, "layers"))
        del memory
        progress(Progress("weights", 0, 1, "bytes"))

    monkeypatch.setattr(compiler, "compile", compile)
    start, export, weights = compile_by_phase(Path("m"), Path("o"), "tvm_vacc", None)
    assert [start.name, export.name, weights.name] == ["start", "export", "weights"]
    assert export.anonymous > start.anonymous + LARGE * 0.9
    assert export.anonymous > weights.anonymous + LARGE * 0.9
    assert all(0 < phase.anonymous <= phase.resident for phase in (start, export, weights))
    assert all(phase.seconds >= 0 for phase in (start, export, weights))


def test_a_failing_compile_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        compile_in_subprocess(tmp_path, tmp_path / "out", "tvm_vacc", None)


@pytest.mark.parametrize(("read", "written"), [(1000, 1000), (1000, 300), (300, 1000), (9, 0)])
def test_a_copy_reads_and_writes_so_many_bytes(
    read: int, written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    monkeypatch.setattr(Path, "unlink", lambda path: sizes.append(path.read_bytes()))
    content = np.random.default_rng(0).bytes(1000)
    for name, part in (("a", content[:400]), ("b", content[400:])):
        (tmp_path / name).write_bytes(part)
    assert copy_seconds([tmp_path / "a", tmp_path / "b"], read, written, tmp_path / "c") > 0
    [copied] = sizes
    both = min(read, written)
    assert (len(copied), copied[:both]) == (written, content[:both])


def test_medians_are_taken_phase_by_phase() -> None:
    compiles = [
        (Phase("a", 1.0, 10, 20), Phase("b", 9.0, 1, 2)),
        (Phase("a", 3.0, 30, 40), Phase("b", 8.0, 3, 4)),
        (Phase("a", 2.0, 20, 30), Phase("b", 7.0, 2, 3)),
    ]
    assert median_phases(compiles) == (Phase("a", 2.0, 20, 30), Phase("b", 8.0, 2, 3))
