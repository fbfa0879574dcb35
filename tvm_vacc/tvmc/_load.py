"""Loads an artefact of the kind that a subcommand is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tvm_vacc.errors import ArtifactError
from tvm_vacc.light_tvm import import_runtime, torch_hidden

if TYPE_CHECKING:
    from tvm_vacc.artifact.manifest import Manifest
    from tvm_vacc.runtime.graph import Graph
    from tvm_vacc.runtime.model import Model


def load_language_model(path: Path, threads: int | None, *, compiler: bool = False) -> Model:
    """Load a language model.

    Args:
        path: of the artefact.
        threads: of the kernels.
        compiler: whether this process is to compile something too.

    Raises:
        ArtifactError: the artefact is damaged, or a plain graph.
    """
    return cast("Model", _load(path, threads, "causal_lm", compiler))


def load_graph(path: Path, threads: int | None, *, compiler: bool = False) -> Graph:
    """Load a plain graph. Arguments: `load_language_model`.

    Raises:
        ArtifactError: the artefact is damaged, or a language model.
    """
    return cast("Graph", _load(path, threads, "graph", compiler))


def require_kind(path: Path, kind: str) -> Manifest | None:
    """Hold an artefact against what a subcommand is for, before its kernels are loaded.

    Returns:
        Its manifest; None for a library, which is a plain graph.

    Raises:
        ArtifactError: it is damaged, or of another kind; the line says which subcommand to use.
    """
    from tvm_vacc.artifact.archive import manifest_of
    from tvm_vacc.artifact.kernel_files import LIBRARY_SUFFIX

    is_library = path.is_file() and path.suffix == LIBRARY_SUFFIX
    manifest = None if is_library else manifest_of(path)
    found = "graph" if manifest is None else manifest.kind
    if found != kind:
        what, command = _USES[found]
        raise ArtifactError(f"{path}: is {what}", f"use: tvmc {command} {path}")
    return manifest


def _load(path: Path, threads: int | None, kind: str, compiler: bool) -> Any:
    from tvm_vacc.artifact.kernel_files import SHARED_LIBRARY

    manifest = require_kind(path, kind)
    is_compiled = manifest is None or SHARED_LIBRARY in manifest.files
    if is_compiled and not compiler:
        import_runtime()
    with torch_hidden():
        import tvm_vacc

        return tvm_vacc.load(path, threads=threads)


_USES = {
    "causal_lm": ("a language model", "generate, chat or profile"),
    "graph": ("no language model", "run"),
}
