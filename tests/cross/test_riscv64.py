"""The demo on riscv64, on an emulated processor: as machine code of LLVM, and as C sources."""

from __future__ import annotations

from pathlib import Path

import pytest

import tvm_vacc
from tests.codegen_c.c_build import build_with_cmake
from tests.cross import qemu, riscv64
from tests.cross.demo import COUNT, PROMPT, compile_demo
from tvm_vacc.runtime.model import Model

pytestmark = [
    pytest.mark.slow,
    qemu.needs("qemu-riscv64", riscv64.COMPILER, "riscv64-linux-gnu-gcc"),
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], list[int]]:
    """The prompt and the answer of the artefact for this machine's architecture."""
    model = tvm_vacc.load(compile_demo("tvm_vacc", tmp_path_factory.mktemp("here") / "demo"))
    assert isinstance(model, Model)
    prompt = model.tokenizer.encode(PROMPT)
    return prompt, list(model.generate(prompt, COUNT))


def test_machine_code_gives_the_same_tokens(
    expected: tuple[list[int], list[int]], tmp_path: Path
) -> None:
    prompt, answer = expected
    generator = riscv64.build(tmp_path)
    artefact = compile_demo("tvm_vacc -mtriple=riscv64-linux-gnu", tmp_path / "riscv")
    assert generator.generate(artefact, prompt, COUNT) == answer


def test_c_sources_give_the_same_tokens(
    expected: tuple[list[int], list[int]], tmp_path: Path
) -> None:
    prompt, answer = expected
    sources = compile_demo("tvm_vacc/c", tmp_path / "c")
    system = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=riscv64")
    programs = build_with_cmake(
        sources, tmp_path / "build", *system, compiler="riscv64-linux-gnu-gcc"
    )
    command = [*riscv64.QEMU, programs / "vacc_generate", "-n", COUNT, sources, *prompt]
    done = qemu.run(command, {})
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == answer
