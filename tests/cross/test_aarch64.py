"""Artefacts for 64-bit Arm, run there by the same Python package, on an emulated processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cross import qemu
from tests.cross.arm64_root import PROGRAMS, Arm64
from tests.cross.demo import compile_demo, generate, greedy_text
from tvm_vacc.artifact.store import open_artifact

pytestmark = [pytest.mark.slow, qemu.needs(*PROGRAMS, "aarch64-linux-gnu-g++")]


def test_the_demo_gives_the_same_tokens(arm64: Arm64, tmp_path: Path) -> None:
    expected = greedy_text(compile_demo("tvm_vacc", tmp_path / "here"))
    artefact = compile_demo("tvm_vacc -mtriple=aarch64-linux-gnu", tmp_path / "arm")
    assert (artefact / "model.so").read_bytes()[18:20] == b"\xb7\0"  # EM_AARCH64
    done = arm64.python(*generate(artefact))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == expected
    foreign = arm64.python(*generate(tmp_path / "here"))
    assert foreign.returncode == 4
    assert "cannot run here: it is compiled for x86_64" in foreign.stderr
    assert foreign.stderr.endswith('or anywhere for "tvm_vacc -mtriple=aarch64-linux-gnu"\n')


def test_a_processor_without_a_feature_refuses(arm64: Arm64, tmp_path: Path) -> None:
    artefact = compile_demo("tvm_vacc -mtriple=aarch64-linux-gnu -mattr=+dotprod", tmp_path / "dot")
    processor = open_artifact(artefact).manifest.processor
    assert processor is not None
    assert "dotprod" in processor.features
    done = arm64.python(*generate(artefact), cpu="cortex-a53")
    assert done.returncode == 4
    assert "this machine's processor lacks dotprod; compile it again" in done.stderr
