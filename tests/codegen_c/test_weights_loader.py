"""The C loader of weights, built with the sanitizers: good files, and files that are not."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.codegen_c.c_build import SANITIZERS, build
from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.weights_file import WeightsWriter
from tvm_vacc.codegen_c.manifest_tables import manifest_tables
from tvm_vacc.errors import ArtifactError

ARRAYS = {
    'layer "0"\\weight é': np.arange(35, dtype=np.float32).reshape(5, 7),
    "bias": np.arange(3, dtype=np.int8),
    "empty": np.zeros((0, 4), np.float16),
}
FILES = ("first.safetensors", "second.safetensors")
OK, NO_FILE, BAD_FILE = "0", "3", "4"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), NO_FILE),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), NO_FILE),
    "empty": (lambda path: path.write_bytes(b""), BAD_FILE),
    "cut within the length": (lambda path: path.write_bytes(path.read_bytes()[:5]), BAD_FILE),
    "cut within the header": (lambda path: path.write_bytes(path.read_bytes()[:60]), BAD_FILE),
    "cut by a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), BAD_FILE),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), BAD_FILE),
    "of another model": (lambda path: _write(path, {"bias": ARRAYS["bias"] - 1}), BAD_FILE),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), BAD_FILE),
    "another length": (lambda path: _change(path, 0), BAD_FILE),
    "another offset": (lambda path: _change(path, path.read_bytes().index(b"offsets")), BAD_FILE),
}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.unlink(missing_ok=True)
    entries = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with WeightsWriter(path, entries) as file:
        for name, array in arrays.items():
            file.append(name, array)


def _change(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def _package(directory: Path) -> Manifest:
    """Write two files of weights, and the tables for parameters in another order."""
    names = list(ARRAYS)
    for file, held in zip(FILES, (names[:1], names[1:]), strict=True):
        _write(directory / file, {name: ARRAYS[name] for name in held})
    manifest = Manifest(
        "test", "graph", "tvm_vacc/c", "fp32", weights=FILES, parameters=tuple(reversed(names))
    )
    for name, text in manifest_tables(directory, manifest).items():
        (directory / name).write_text(text, "utf-8")
    return manifest


@pytest.fixture(scope="module", params=[(), ("-DVACC_NO_MMAP",)], ids=["mapped", "read"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loader")
    _package(directory)
    runtime = files("tvm_vacc.codegen_c") / "runtime"
    for name in ("vacc.h", "vacc.c", "vacc_weights.h", "vacc_weights.c"):
        (directory / name).write_bytes((runtime / name).read_bytes())
    shutil.copy(Path(__file__).with_name("open_weights.c"), directory)
    sources = sorted(directory.glob("*.c"))
    return build(
        "gcc", sources, directory / "open", "-g", *SANITIZERS, *request.param, shared=False
    )


def _open(program: Path, directory: Path) -> list[str]:
    done = subprocess.run(
        [str(program), str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout.splitlines()


def test_tensors_are_found_in_the_order_of_the_parameters(program: Path) -> None:
    status, *sums = _open(program, program.parent)
    assert status == OK
    assert sums == [
        f"{name} {int(np.frombuffer(array.tobytes(), np.uint8).sum())}"
        for name, array in reversed(ARRAYS.items())
    ]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", FILES)
def test_a_bad_file_is_a_status(program: Path, file: str, fault: str, tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(program.parent / name, tmp_path)
    damage, status = FAULTS[fault]
    damage(tmp_path / file)
    assert _open(program, tmp_path) == [status]


def test_a_weight_that_no_file_holds_is_named(tmp_path: Path) -> None:
    manifest = dataclasses.replace(_package(tmp_path), parameters=("bias", "absent"))
    with pytest.raises(ArtifactError, match="the weight absent is missing"):
        manifest_tables(tmp_path, manifest)
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(ArtifactError, match=FILES[1]):
        manifest_tables(tmp_path, manifest)
