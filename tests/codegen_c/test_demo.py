"""The demo model as C sources alone: the tokens of the artefact of machine code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tvm_vacc
from tests.codegen_c.c_build import build, build_with_cmake, need_option
from tests.codegen_c.c_model import CModel
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.kv_cache import Sequence
from tvm_vacc.runtime.model import Model

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
PROMPT = list(range(60, 99))  # two pieces, and an odd number of tokens
TOKENS = 20
WHOLE = {"context": 64, "prefill": 32, "passport": False}

PROGRAMS = {
    "gcc": ("gcc", "", ()),
    "clang": ("clang", "", ()),
    "plain": ("gcc", "", ("-DVACC_PLAIN_C=ON",)),
    "32 bits": ("gcc", "-m32 -msse2 -mfpmath=sse", ()),
    "32 bits plain": ("gcc", "-m32 -msse2 -mfpmath=sse", ("-DVACC_PLAIN_C=ON",)),
    "addresses": ("gcc", "-fsanitize=address,undefined -fno-sanitize-recover=all", ()),
    "threads": ("gcc", "-fsanitize=thread", ()),
}
"""Compiler, its flags, and options of the CMake file."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["bf16", "fp32"])
def packages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Model]:
    """The demo as C, and as machine code."""
    directory = tmp_path_factory.mktemp(request.param)
    sources, machine = (
        tvm_vacc.compile(
            CHECKPOINT, output=directory / name, target=target, dtype=request.param, **WHOLE
        )
        for name, target in (("c", "tvm_vacc/c"), ("machine", "tvm_vacc"))
    )
    model = tvm_vacc.load(machine)
    assert isinstance(model, Model)
    return sources, model


def test_its_logits_are_the_same_bit_for_bit(packages: tuple[Path, Model], tmp_path: Path) -> None:
    sources, oracle = packages
    with pytest.raises(ArtifactError, match="C sources"):
        tvm_vacc.load(sources)
    library = build("gcc", sorted(sources.glob("*.c")), tmp_path / "model.so", "-O1")
    model = CModel(sources, library)
    sequence = Sequence()
    pieces = [PROMPT[:32], PROMPT[32:]]
    logits = np.concatenate([model.step(sequence, part, all_logits=True) for part in pieces])
    np.testing.assert_array_equal(logits, oracle.logits(PROMPT))
    assert model.generate(PROMPT, TOKENS) == list(oracle.generate(PROMPT, TOKENS))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_program_of_its_cmake_file_gives_the_same_tokens(
    packages: tuple[Path, Model], kind: str, tmp_path: Path
) -> None:
    sources, oracle = packages
    compiler, flags, options = PROGRAMS[kind]
    need_option(compiler, flags, tmp_path)
    directory = build_with_cmake(sources, tmp_path / "c", *options, compiler=compiler, flags=flags)
    done = subprocess.run(
        [directory / "vacc_generate", "-t", "3", "-n", str(TOKENS), sources],
        input=" ".join(map(str, PROMPT)),
        env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [int(line) for line in done.stdout.split()] == list(oracle.generate(PROMPT, TOKENS))
