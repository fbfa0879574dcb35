from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tvm_vacc
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import fake_compiler
from tvm_vacc.codegen.options import BuildOptions
from tvm_vacc.target_string import make_target
from tvm_vacc.tuning_records import TuningRecords

compile_module = importlib.import_module("tvm_vacc.tvmc.commands.compile")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    compiler = fake_compiler(calls, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "tvm_vacc.compiler", compiler)
    monkeypatch.setattr(tvm_vacc, "compiler", compiler, raising=False)
    monkeypatch.setattr(compile_module, "planned_passes", lambda *_: None)
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
    after = ("--print-ir-after", "fuse_rope,canonicalize", "-O", "1", "--disabled-pass", "[a, b]")
    linker = ("--cross-compiler", "clang", "--cross-compiler-options", "-v '-Wl,-x y'")
    name = ("--module-name", "glm", "--pass-config", "tirx.disable_assert=1")
    code, out, _ = tvmc("compile", tmp_path, "--target", target, *options, *after, *name, *linker)
    assert code == 0
    assert out.startswith("# after fuse_rope\n# after canonicalize\n")
    (call,) = calls
    assert callable(call.pop("explain"))
    assert call == {
        "reuse": True,
        "passport": True,
        "path": tmp_path,
        "output": Path("there"),
        "name": "glm",
        "target": target,
        "dtype": "fp16",
        "context": 64,
        "prefill": 32,
        "cross_compiler": "clang",
        "cross_compiler_options": ["-v", "-Wl,-x y"],
        "input_shapes": None,
        "model_format": None,
        "build": BuildOptions(1, ("a", "b"), {"tirx.disable_assert": True}),
    }


def test_tuning_records_are_read(tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path) -> None:
    target, records = "tvm_vacc -mcpu=znver4", tmp_path / "records"
    known = TuningRecords.open_or_start(records, make_target(target))
    given = ("compile", tmp_path, "--tuning-records", records)
    assert tvmc(*given, "--target", target)[0] == 0
    assert calls[-1]["build"].tuning == known
    code, _, err = tvmc(*given, "--target", "tvm_vacc -mcpu=x86-64-v3")
    assert code == 4
    assert "its records are for" in err
    code, _, err = tvmc("compile", tmp_path, "--tuning-records", tmp_path, "--target", target)
    assert (code, err) == (
        4,
        f"Error: {tmp_path}: holds no tuning records; make them by tvmc tune\n",
    )


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


def test_a_preset_gives_options_and_the_command_line_wins(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert tvmc("compile", tmp_path, "--config", "x86-64-v3")[0] == 0
    assert json.loads(calls[0]["target"]) == {"tag": "tvm_vacc", "mcpu": "x86-64-v3"}
    preset = tmp_path / "own.json"
    preset.write_text(
        '{"targets": [{"kind": "tvm_vacc"}, {"kind": "llvm", "mcpu": "znver4"}], "opt_level": 0,'
        ' "executor": {"kind": "vm"}, "pass-config": {"tirx.disable_assert": true}, "no-cache": 1}'
    )
    code, _, err = tvmc("compile", tmp_path, "--config", preset, "-O", "2")
    assert code == 0, err
    assert calls[1]["build"] == BuildOptions(2, (), {"tirx.disable_assert": True})
    assert not calls[1]["reuse"]
    assert tvmc("--config", "x86-64-v4", "compile", tmp_path)[0] == 0
    assert json.loads(calls[2]["target"])["mcpu"] == "x86-64-v4"


def test_command_lines_of_the_former_tvmc_parse(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    code, _, err = tvmc(
        *("compile", "--target", "tvm_vacc, llvm", "--target-llvm-mcpu", "skylake-avx512"),
        *("--executor", "graph", "--executor-graph-link-params", "0", "--runtime", "cpp"),
        *("--mixed-precision", "--mixed-precision-ops", "nn.dense", "nn.matmul", "-v", "-v"),
        *("--disabled-pass", "FuseOps", "--module-name", "default"),
        *("--print-pass-times", "--output", "there", tmp_path),
    )
    assert (code, calls) == (4, [])  # argparse too took FILE for one of the operators
    code, _, err = tvmc(
        *("compile", tmp_path, "--target", "tvm_vacc, llvm", "--target-llvm-mcpu", "haswell"),
        *("--executor", "graph", "--executor-graph-link-params", "0", "--runtime", "cpp"),
        *("--mixed-precision", "--mixed-precision-ops", "nn.dense", "nn.matmul"),
        *("--disabled-pass", "FuseOps", "--module-name", "default", "--output", "there"),
    )
    assert code == 0, err
    assert "Note: --executor graph: Relax's virtual machine takes its place" in err
    assert "--disabled-pass narrow_convolutions leaves them in fp32" in err
    assert calls[0]["dtype"] == "fp16"
    assert json.loads(calls[0]["target"]) == {"tag": "tvm_vacc", "mcpu": "haswell"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "nosuch"], "no such preset or file; presets: c, default, native"),
        (["--executor", "ray"], "there is no such executor; give vm"),
        (["--runtime", "crt"], "take -f mlf"),
        (["--executor-aot-interface-api", "c"], "take -f mlf"),
        (["--runtime-crt-system-lib", "1"], "take -f mlf"),
        (["--workspace-pools", "sram"], "memory is planned in one pool"),
        (["--desired-layout", "NHWC"], "graphs keep the layout of the model"),
        (["--mixed-precision", "--mixed-precision-ops", "nn.lstm"], "such operators run in fp32"),
        (["--mixed-precision", "--mixed-precision-ops", "nn.conv2d"], "name nn.dense as well"),
        (["--mixed-precision", "--mixed-precision-acc-type", "float16"], "sums are fp32 always"),
        (["--mixed-precision", "--dtype", "bf16"], "give one of them"),
        (["--mixed-precision-calculation-type", "float16"], "--mixed-precision is missing"),
        (["--model-format", "tflite"], "tf2onnx"),
        (["--input-shapes", "x:1,2"], "is no shape; write"),
        (["--input-shapes", "x:[1] x:[2]"], "names x twice"),
        (["--target-tvm_vacc-mcpu", "a", "--target-llvm-mcpu", "b"], "give the option once"),
        (["--target-llvm-num-cores", "x"], "give a whole number"),
        (["-f", "so", "--target", "tvm_vacc/c"], "give -f mlf"),
        (["-f", "mlf", "--target", "tvm_vacc -mcpu=native"], "leave --target out"),
        (["--pass-config", "a=b"], "valid: "),
        (["-O", "4"], "4 is not in the range"),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_to_do(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path, options: list[str], message: str
) -> None:
    code, out, err = tvmc("compile", tmp_path, *options)
    assert (code, out, calls) == (4, "", [])
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_target_may_stand_in_a_file(
    tvmc: Tvmc, calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "target.json"
    path.write_text('{"tag": "tvm_vacc", "mcpu": "znver4"}')
    assert tvmc("compile", tmp_path, "--target", path)[0] == 0
    assert json.loads(calls[0]["target"]) == {"tag": "tvm_vacc", "mcpu": "znver4"}
    path.write_text('{"tag": "cuda"}')
    code, _, err = tvmc("compile", tmp_path, "--target", path)
    assert code == 4
    assert 'the key "tag" must be "tvm_vacc"' in err
