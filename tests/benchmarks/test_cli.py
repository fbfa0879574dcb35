from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import accuracy, artefacts
from benchmarks.accuracy import Window
from benchmarks.cli import main
from benchmarks.kernels import rms_norm
from benchmarks.results import AccuracyResults, KernelResults, read_results
from tests.benchmarks.test_kernels import SMALL
from tests.benchmarks.test_synthetic import SMALL as SMALL_CONFIG
from tvm_vacc.machine import limits
from tvm_vacc.runtime.tokenizer import Tokenizer


@pytest.mark.parametrize(
    "command",
    ["kernels", "checkpoint", "gguf", "model", "accuracy", "compile", "report"],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "Usage: python -m benchmarks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kernels", "--only", "rms"], "there is no kernel 'rms'"),
        (["kernels", "--target", "tvm_vac"], "tvm_vac"),
        (["model", ".", "--contexts", "1,x"], "'1,x' is not numbers"),
        (["model", ".", "--batches", "0"], "must be above 0"),
        (["model", "."], "manifest.json"),
        (["model", ".", "--peer", "nobody", "python", "."], "there is no adapter 'nobody'"),
        (["model", ".", "--peer", "ours:x", "python", "."], "NAME=VALUE"),
        (["model", ".", "--peer", "ours", "/no/python", "."], "/no/python is not there"),
        (["compile", "README.md"], "README.md"),
        (["gguf", ".", "m.gguf", "--type", "f16"], "config.json"),
        (["accuracy", "tests"], "tokenizer.json"),
        (["accuracy", "demo/checkpoint", "--windows", "1000000"], "ask for fewer windows"),
        (["accuracy", ".", "--peer", "llama_cpp:kv", "python", "."], "NAME=VALUE"),
    ],
)
def test_errors_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 4
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_kernels_writes_results_and_a_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rms_norm, "SPEC", SMALL)
    monkeypatch.setattr(limits, "cold_bytes", lambda: 1 << 22)
    monkeypatch.setattr(limits, "ROUNDS_OF_CHOICE", 1)
    files = [tmp_path / "r.json", tmp_path / "r.svg"]
    words = ["kernels", "--only", "rms_norm", "--rounds", "2", "--threads", "1"]
    assert main([*words, "--json", str(files[0]), "--plot", str(files[1])]) == 0
    results = read_results(files[0])
    assert isinstance(results, KernelResults)
    assert [row.name for row in results.rows] == ["rms_norm"] * 3
    assert results.run.command.endswith("--json r.json --plot r.svg")
    assert results.limits.read.samples == 3 * 3
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[-1].startswith("limits: reading ")
    assert files[1].read_text().count("rms_norm")


def test_checkpoint_takes_another_config(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(SMALL_CONFIG))
    words = ["checkpoint", tmp_path / "out", "--layers", 2, "--config", tmp_path / "c.json"]
    assert main([str(word) for word in words]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {**SMALL_CONFIG, "num_hidden_layers": 2}


def test_gguf_writes_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "demo.gguf"
    assert main(["gguf", "demo/checkpoint", str(file), "--type", "q4_0", "--head", "q8_0"]) == 0
    assert file.read_bytes()[:4] == b"GGUF"


def test_accuracy_compares_and_writes_results(
    tmp_path: Path,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = artefact.parent / "tiny"
    text = [Window(tuple(range(7, 30)), 2), Window((1, 2, 3, 4), 2)]
    monkeypatch.setattr(accuracy, "held_out_windows", lambda tokenizer, count: text)
    monkeypatch.setattr(Tokenizer, "from_directory", lambda directory: None)
    monkeypatch.setattr(artefacts, "compile_type", lambda *words: artefact)
    words = ["accuracy", checkpoint, "--type", "bf16", "--type", "w8a16:head=8bit"]
    words += ["--peer", "ours", sys.executable, artefact, "--threads", 1, "--json", tmp_path / "a"]
    assert main([str(word) for word in words]) == 0
    results = read_results(tmp_path / "a")
    assert isinstance(results, AccuracyResults)
    assert [row.system for row in results.rows] == [
        "tvm_vacc bf16",
        "tvm_vacc bf16, head=8bit",
        "tvm_vacc bf16",
    ]
    assert results.rows[0].kl_mean == results.rows[2].kl_mean > 0
    assert results.tokens == 23
    assert results.rows[0].perplexity == pytest.approx(results.reference_perplexity, rel=0.1)
    assert len(capsys.readouterr().out.splitlines()) == 4
