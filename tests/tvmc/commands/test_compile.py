from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tvm_vacc
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import fake_compiler

compile_module = importlib.import_module("tvm_vacc.tvmc.commands.compile")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    compiler = fake_compiler(calls, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "tvm_vacc.compiler", compiler)
    monkeypatch.setattr(tvm_vacc, "compiler", compiler, raising=False)
    monkeypatch.setattr(compile_module, "planned_passes", lambda options, names: None)
    return calls


def test_reports_progress_passes_and_place(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    code, out, err = tvmc("compile", tmp_path)
    assert code == 0
    *lines, last = err.splitlines()
    assert lines == [
        "export: 0/2 layers",
        "export: 2/2 layers",
        "weights: 0 bytes/3.0 MB",
    ]
    assert re.fullmatch(r"weights: 3.0 MB/3.0 MB, [\d.]+ \w+/s", last)
    rows = [line.split() for line in out.splitlines()]
    assert rows == [
        ["pass", "matches", "expected", "time"],
        ["fuse_rope", "4", "4", "0.50", "s"],
        ["canonicalize", "7", "any", "0.25", "s"],
        ["The", "artefact", "is", "in", str(tmp_path / "out")],
    ]


def test_passes_all_options(tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    target = "tvm_vacc -mcpu=znver4, llvm"
    options = ["--dtype", "fp16", "--context", "64", "--prefill", "32", "-o", "there"]
    after = ("--print-ir-after", "fuse_rope", "--print-ir-after", "canonicalize")
    linker = ("--cross-compiler", "clang", "--cross-compiler-options", "-v '-Wl,-x y'")
    code, out, _ = tvmc("compile", tmp_path, "--target", target, *options, *after, *linker)
    assert code == 0
    assert out.startswith("# after fuse_rope\n# after canonicalize\n")
    (call,) = calls
    assert callable(call.pop("explain"))
    assert call == {
        "reuse": True,
        "passport": True,
        "path": tmp_path,
        "output": Path("there"),
        "target": target,
        "dtype": "fp16",
        "context": 64,
        "prefill": 32,
        "print_ir_after": ("fuse_rope", "canonicalize"),
        "cross_compiler": "clang",
        "cross_compiler_options": ["-v", "-Wl,-x y"],
    }


def test_an_open_quotation_is_refused(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    code, _, err = tvmc("compile", tmp_path, "--cross-compiler-options", "'-v")
    assert code == 4
    assert "No closing quotation" in err
    assert not calls


def test_wrong_target_is_refused_at_once(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    code, _, err = tvmc("compile", tmp_path, "--target", "tvm_vacc -mcup=znver4")
    assert code == 4
    assert "unknown option -mcup; did you mean -mcpu?" in err
    assert not calls
