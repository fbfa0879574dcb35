"""Opens an artefact, checks it, maps its weights and returns what runs it."""

from __future__ import annotations

from pathlib import Path

from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.mapped_weights import map_weights
from tvm_vacc.artifact.store import open_artifact
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.executable import load_executable, set_threads
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.model import Model


def load(path: str | Path, threads: int | None = None) -> Model | Graph:
    """Load the artefact in the directory `path`.

    Args:
        path: what `tvm_vacc.compile` returned.
        threads: worker threads of the kernels of this process; None leaves TVM's own choice.

    Returns:
        A `Model` for a language model, a `Graph` for any other.

    Raises:
        ArtifactError: the artefact is missing, damaged, of another format version, or for another
            processor.
        RequestError: `threads` is out of range.
    """
    artifact = open_artifact(path)
    manifest = artifact.manifest
    set_threads(threads)
    loaded = load_files(artifact.path, manifest)
    artifact.require_unchanged()
    return loaded


def load_files(directory: Path, manifest: Manifest) -> Model | Graph:
    """Load the kernels and weights in `directory`, which `manifest` describes; checks no hash.

    Raises:
        ArtifactError: a file is missing or damaged, or the code is for another processor.
    """
    processor = manifest.processor
    if processor is not None and (obstacle := processor.why_not_here()):
        raise ArtifactError(f"{directory}: cannot run here: {obstacle}", processor.cure())
    machine = load_executable(directory)
    tensors = {
        name: tensor
        for file in manifest.weights
        for name, tensor in map_weights(directory / file).items()
    }
    missing = [name for name in manifest.parameters if name not in tensors]
    if missing:
        raise ArtifactError(
            f"{directory}: the weight {missing[0]} is missing", "compile the model again"
        )
    weights = [tensors[name].to_tvm() for name in manifest.parameters]
    if manifest.kind == "graph":
        return Graph(directory, manifest, machine, weights)
    return Model(directory, manifest, machine, weights)
