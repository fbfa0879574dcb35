"""Artefacts for levels of x86-64 on an emulated processor that has only the second."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cross import qemu
from tests.cross.demo import compile_demo, generate, greedy_text
from tvm_vacc.codegen.linker import NONE

pytestmark = [
    pytest.mark.slow,
    qemu.needs("qemu-x86_64"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="this Python is no x86 program"),
]


def generate_on(cpu: str, artefact: Path) -> subprocess.CompletedProcess[str]:
    command = ["qemu-x86_64", "-cpu", cpu, sys.executable, *generate(artefact)]
    return qemu.run(command, os.environ)


def test_the_level_that_is_there_runs(tmp_path: Path) -> None:
    artefact = compile_demo("tvm_vacc -mcpu=x86-64-v2", tmp_path / "v2")
    done = generate_on("Nehalem", artefact)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == greedy_text(artefact)


@pytest.mark.parametrize("form", ["library", "llvm"])
def test_a_higher_one_is_refused_in_one_line(form: str, tmp_path: Path) -> None:
    linker = NONE if form == "llvm" else None
    artefact = compile_demo("tvm_vacc -mcpu=x86-64-v3", tmp_path / "v3", cross_compiler=linker)
    assert (artefact / "model.so").exists() == (form == "library")
    done = generate_on("Nehalem", artefact)
    assert done.returncode == 4
    assert done.stderr == (
        f"Error: {artefact}: cannot run here: this machine's processor lacks avx, avx2, bmi, bmi2, "
        "f16c, fma, lzcnt, movbe; compile it again on this machine for "
        '"tvm_vacc -mcpu=native", or anywhere for "tvm_vacc -mcpu=x86-64-v2"\n'
    )
