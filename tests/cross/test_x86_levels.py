"""Artefacts for levels of x86-64 on an emulated processor that has only the second."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import tvm_vacc
from tests.cross import qemu
from tvm_vacc.runtime.model import Model

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
PROMPT = "In the beginning God created"

pytestmark = [
    pytest.mark.slow,
    qemu.needs("qemu-x86_64"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="this Python is no x86 program"),
]


def compile_for(cpu: str, directory: Path) -> Path:
    target = f"tvm_vacc -mcpu={cpu}"
    return tvm_vacc.compile(
        CHECKPOINT, output=directory / cpu, target=target, prefill=64, context=128, passport=False
    )


def generate_on(cpu: str, artefact: Path) -> subprocess.CompletedProcess[str]:
    command = ["qemu-x86_64", "-cpu", cpu, sys.executable, "-m", "tvm_vacc.tvmc", "generate"]
    options = ["--prompt", PROMPT, "--max-tokens", "12", "--threads", "1"]
    return qemu.run([*command, artefact, *options], os.environ)


def test_the_level_that_is_there_runs(tmp_path: Path) -> None:
    artefact = compile_for("x86-64-v2", tmp_path)
    model = tvm_vacc.load(artefact)
    assert isinstance(model, Model)
    ids = list(model.generate(model.tokenizer.encode(PROMPT), 12))
    done = generate_on("Nehalem", artefact)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == model.tokenizer.decode(ids)


@pytest.mark.parametrize("form", ["library", "llvm"])
def test_a_higher_one_is_refused_in_one_line(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "llvm":
        monkeypatch.setattr("shutil.which", lambda _name: None)
    artefact = compile_for("x86-64-v3", tmp_path)
    assert (artefact / "model.so").exists() == (form == "library")
    monkeypatch.undo()
    done = generate_on("Nehalem", artefact)
    assert done.returncode == 4
    assert done.stderr == (
        f"Error: {artefact}: cannot run here: this machine's processor lacks avx, avx2, bmi, bmi2, "
        "f16c, fma, lzcnt, movbe; compile it again on this machine for "
        '"tvm_vacc -mcpu=native", or anywhere for "tvm_vacc -mcpu=x86-64-v2"\n'
    )
