"""Artefacts whose code another processor runs are refused before anything of it is loaded."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

import tvm_vacc
from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.processor import Processor
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime import load


@pytest.mark.parametrize("names", [("model.so",), ("kernels.ll", "bytecode.ro")])
@pytest.mark.parametrize(
    ("processor", "obstacle"),
    [
        (Processor("riscv64-linux-gnu", ()), "it is compiled for riscv64-linux-gnu, this machine"),
        (
            Processor(f"{platform.machine()}-linux-gnu", ("a-feature-of-the-future",)),
            "this machine's processor lacks a-feature-of-the-future",
        ),
    ],
)
def test_code_for_another_processor_is_never_loaded(
    names: tuple[str, ...], processor: Processor, obstacle: str, tmp_path: Path
) -> None:
    with ArtifactWriter(tmp_path / "foreign") as writer:
        for name in names:
            (writer.directory / name).write_bytes(b"would not load")
        writer.commit(
            Manifest(name="x", kind="graph", target="t", dtype="fp32", processor=processor)
        )
    with pytest.raises(ArtifactError) as caught:
        tvm_vacc.load(writer.destination)
    text = str(caught.value)
    assert text.startswith(f"{writer.destination}: cannot run here: {obstacle}")
    assert "-mcpu=native" in text
    assert "\n" not in text


def test_denied_tiles_are_told_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "granted", lambda: False)
    monkeypatch.setattr(Processor, "why_not_here", lambda _self: "")
    with ArtifactWriter(tmp_path / "amx") as writer:
        (writer.directory / "model.so").write_bytes(b"would not load")
        processor = Processor("x86_64-linux-gnu", ("amx-tile",))
        writer.commit(
            Manifest(name="x", kind="graph", target="t", dtype="fp32", processor=processor)
        )
    with pytest.raises(ArtifactError, match=r"no AMX tiles.*-mattr=-amx-tile"):
        tvm_vacc.load(writer.destination)


def test_a_library_for_another_architecture_is_refused(tmp_path: Path) -> None:
    here = bytearray(Path(sys.executable).read_bytes()[:64])
    here[18] ^= 0xFF  # the machine
    (tmp_path / "model.so").write_bytes(here)
    with pytest.raises(ArtifactError, match="compiled for another architecture; compile it again"):
        load.load(tmp_path / "model.so")
