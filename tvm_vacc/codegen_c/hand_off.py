"""Completes printed sources to what another toolchain builds: a loader, examples, a CMake file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tvm_vacc.artifact.kernel_files import C_BUILD
from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.codegen_c.cmake import THREADS, cmake_lists
from tvm_vacc.codegen_c.manifest_tables import manifest_tables

LOADER_FILES = ("vacc_weights.h", "vacc_weights.c")
THREADS_FILES = ("vacc_threads.h", THREADS)
EXAMPLES = {"causal_lm": "vacc_generate.c", "graph": "vacc_run.c"}
"""The example program for each kind of artefact."""


def write_hand_off(directory: Path, manifest: Manifest) -> None:
    """Write what a program needs around the sources in `directory`, which `write_sources` wrote.

    Args:
        directory: of the artefact; it holds the weights, too.
        manifest: of the artefact; its `files` are not read.

    Raises:
        ArtifactError: a file of weights is missing or damaged, or lacks a weight.
    """
    runtime, examples = (files("tvm_vacc.codegen_c") / name for name in ("runtime", "examples"))
    program = EXAMPLES[manifest.kind]
    tables = manifest_tables(directory, manifest)
    library = [path.name for path in directory.glob("*.c")]
    library += [name for name in (*tables, *LOADER_FILES) if name.endswith(".c")]
    for name, text in tables.items():
        (directory / name).write_text(text, "utf-8")
    for name in LOADER_FILES:
        (directory / name).write_bytes((runtime / name).read_bytes())
    for name in (*THREADS_FILES, program):
        (directory / name).write_bytes((examples / name).read_bytes())
    (directory / C_BUILD).write_text(cmake_lists(library, [program]), "utf-8")
