"""TVM's C++ runtime for riscv64, for which PyPI has no wheel, and a program round it.

The sources of runtime and FFI are those of the wheels that are installed here, less some headers
that the wheel of TVM leaves out: they come from a checkout of its repository, whose place the
environment variable ``TVM_SOURCE_DIR`` names.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import tvm
import tvm_ffi

from tests.cross import qemu
from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest
from tvm_vacc.artifact.mapped_weights import map_weights
from tvm_vacc.limits import PAGE_SIZE

SYSROOT = "/usr/riscv64-linux-gnu"
COMPILER = "riscv64-linux-gnu-g++"
QEMU = ["qemu-riscv64", "-L", SYSROOT]

_TVM, _FFI = Path(tvm.__file__).parent, Path(tvm_ffi.__file__).parent
_MACHINE = ("builtin", "bytecode", "executable", "vm")
_FFI_UNUSED = ("backtrace_win", "testing")


@dataclass(frozen=True)
class Generator:
    """The program of generate.cc, built for riscv64."""

    program: Path

    def generate(self, artefact: Path, prompt: list[int], count: int) -> list[int]:
        """Return `count` greedy tokens after `prompt`."""
        tensors = self.program.parent / "tensors.txt"
        tensors.write_text("".join(f"{line}\n" for line in _tensors(artefact)))
        command = [*QEMU, self.program, artefact / "model.so", tensors, count, *prompt]
        done = qemu.run(command, {**os.environ, "TVM_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        return [int(line) for line in done.stdout.split()]


def _tensors(artefact: Path) -> list[str]:
    """Return a line for each cache and weight, as generate.cc reads them."""
    manifest = read_manifest(artefact / MANIFEST_NAME)
    weights = {
        tensor.name: (artefact / file, tensor)
        for file in manifest.weights
        for tensor in map_weights(artefact / file).values()
    }
    pages = manifest.context // PAGE_SIZE
    lines = [(c.dtype, "-", 0, pages, *c.shape[1:]) for c in manifest.caches]
    for name in manifest.parameters:
        file, tensor = weights[name]
        lines.append((tensor.dtype, str(file), tensor.offset, *tensor.shape))
    return [" ".join(map(str, line)) for line in lines]


def build(directory: Path) -> Generator:
    """Compile the runtime and generate.cc; skips the test without `TVM_SOURCE_DIR`."""
    if (checkout := os.environ.get("TVM_SOURCE_DIR")) is None:
        pytest.skip("TVM_SOURCE_DIR names no checkout of TVM")
    runtime = _TVM / "src" / "runtime"
    sources = [
        Path(__file__).with_name("generate.cc"),
        *(p for p in (_FFI / "src").rglob("*.cc") if p.stem not in _FFI_UNUSED),
        *runtime.glob("*.cc"),
        *(runtime / "memory").glob("*.cc"),
        *(runtime / "vm" / f"{name}.cc" for name in _MACHINE),
    ]
    theirs = Path(checkout)
    # The last two: sources include "../support/..." and "../../support/...".
    folders = [
        *(_TVM / "include", _FFI / "include", theirs / "include"),
        *(theirs / "3rdparty" / "compiler-rt", theirs / "src" / "runtime"),
        theirs / "src" / "runtime" / "vm",
    ]
    flags = ["-std=c++20", "-O0", "-DTVM_FFI_USE_LIBBACKTRACE=0", *(f"-I{f}" for f in folders)]
    objects = [directory / f"{number}.o" for number in range(len(sources))]
    for source, made in zip(sources, objects, strict=True):
        _compile([*flags, "-c", source, "-o", made])
    program = directory / "generate"
    _compile(["-rdynamic", "-o", program, *objects, "-ldl", "-lpthread", "-latomic"])
    return Generator(program)


def _compile(arguments: list[object]) -> None:
    command = [COMPILER, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
