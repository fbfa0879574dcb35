"""Builds printed sources with the compilers of the machine, and calls them through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-psabi")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
PLAIN = "-DVACC_PLAIN_C"


def need(compiler: str) -> str:
    """Return the path of a compiler; skip the test where the machine has none."""
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"{compiler} is not on this machine")
    return found


def need_option(compiler: str, flags: str, directory: Path) -> None:
    """Skip the test where the compiler cannot link a program with `flags`."""
    source = directory / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    command = [need(compiler), *flags.split(), str(source), "-o", str(directory / "empty")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{compiler} {flags} does not link on this machine")


def build(
    compiler: str, sources: Sequence[Path], output: Path, *options: str, shared: bool = True
) -> Path:
    """Compile and link `sources`; warnings are errors."""
    kind = ["-shared", "-fPIC"] if shared else []
    command = [need(compiler), *WARNINGS, *options, *kind, "-o", str(output)]
    done = subprocess.run(
        [*command, *map(str, sources), "-lm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:4000]
    return output


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Return the address of a C-contiguous array."""
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def arguments_type(header: str, function: str) -> type[ctypes.Structure]:
    """Return the struct of arguments that `header` declares for `function`."""
    body = header.split(f"struct {function}_arguments {{")[1].split("};")[0]
    declared = [line.split(";")[0].strip() for line in body.splitlines() if ";" in line]
    fields: list[tuple[str, Any]] = [
        (item.split("*")[-1].split()[-1], ctypes.c_void_p if "*" in item else ctypes.c_int64)
        for item in declared
    ]
    return type(function, (ctypes.Structure,), {"_fields_": fields})


def build_with_cmake(
    package: Path, directory: Path, *options: str, compiler: str = "gcc", flags: str = ""
) -> Path:
    """Build a package through its own CMakeLists.txt; return the directory of the programs."""
    warnings = "-Wall -Wextra -Werror -pedantic"
    configure = [
        need("cmake"),
        f"-S{package}",
        f"-B{directory}",
        f"-DCMAKE_C_COMPILER={need(compiler)}",
        f"-DCMAKE_C_FLAGS={warnings} {flags}",
        *options,
    ]
    for command in (configure, [need("cmake"), "--build", str(directory)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return directory
