"""Loads an artefact of the kind that a subcommand is for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tvm_vacc.errors import ArtifactError

if TYPE_CHECKING:
    from tvm_vacc.runtime.graph import Graph
    from tvm_vacc.runtime.model import Model


def load_language_model(path: Path, threads: int | None) -> Model:
    """Load a language model.

    Raises:
        ArtifactError: the artefact is damaged, or a plain graph.
    """
    return cast("Model", _load(path, threads, kind="causal_lm"))


def load_graph(path: Path, threads: int | None) -> Graph:
    """Load a plain graph.

    Raises:
        ArtifactError: the artefact is damaged, or a language model.
    """
    return cast("Graph", _load(path, threads, kind="graph"))


def _load(path: Path, threads: int | None, *, kind: str) -> Any:
    from tvm_vacc.artifact.manifest import MANIFEST_NAME, read_manifest

    # Before the kernels are, which takes a second.
    found = read_manifest(path / MANIFEST_NAME).kind
    if found != kind:
        what, command = _USES[found]
        raise ArtifactError(f"{path}: is {what}", f"use: tvmc {command} {path}")

    with _torch_hidden():
        import tvm_vacc

        return tvm_vacc.load(path, threads=threads)


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Keep TVM's first import from importing torch.

    tvm-ffi does so where torch is installed, for conversions that nothing here asks for: 1.8 s of
    2.9 s until a prompt can be read, and 200 MB.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # Python's own mark: not importable
    try:
        yield
    finally:
        del sys.modules["torch"]


_USES = {"causal_lm": ("a language model", "generate"), "graph": ("no language model", "run")}
