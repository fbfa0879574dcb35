"""Opens an artefact in any of its forms, checks it, and returns what runs it."""

from __future__ import annotations

import sys
import tempfile
import weakref
from pathlib import Path

import tvm

from tvm_vacc.artifact.archive import unpack_artifact
from tvm_vacc.artifact.kernel_files import LIBRARY_SUFFIX
from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.mapped_weights import map_parameters
from tvm_vacc.artifact.store import open_artifact
from tvm_vacc.errors import ArtifactError
from tvm_vacc.runtime.executable import load_executable, set_threads
from tvm_vacc.runtime.graph import Graph
from tvm_vacc.runtime.library import ENTRY
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.tile_registers import FEATURE, granted


def load(path: str | Path, threads: int | None = None) -> Model | Graph:
    """Load an artefact.

    A tar is unpacked to a temporary directory that goes with what is returned: a directory starts
    sooner and takes no room twice.

    Args:
        path: what `tvm_vacc.compile` returned, or what ``tvmc compile -f tar`` or ``-f so`` has
            written. A shared library is code, and runs unchecked.
        threads: worker threads of the kernels of this process; None leaves TVM's own choice.

    Returns:
        A `Model` for a language model, a `Graph` for any other.

    Raises:
        ArtifactError: the artefact is missing, damaged, of another format version, or for another
            processor.
        RequestError: `threads` is out of range.
    """
    path = Path(path)
    if path.is_file() and path.suffix == LIBRARY_SUFFIX:
        return _load_library(path, threads)
    if not path.is_file():
        return _load_directory(path, threads)
    folder = tempfile.TemporaryDirectory(prefix="tvm_vacc-")
    try:
        unpack_artifact(path, Path(folder.name))
        loaded = _load_directory(Path(folder.name), threads)
    except BaseException:
        folder.cleanup()
        raise
    weakref.finalize(loaded, folder.cleanup)
    return loaded


def _load_directory(path: Path, threads: int | None) -> Model | Graph:
    artifact = open_artifact(path)
    manifest = artifact.manifest
    set_threads(threads)
    loaded = load_files(artifact.path, manifest)
    artifact.require_unchanged()
    return loaded


def _load_library(path: Path, threads: int | None) -> Graph:
    made_for, here = _architecture(path), _architecture(Path(sys.executable))
    if made_for and here and made_for != here:
        raise ArtifactError(
            f"{path}: cannot run here: it is compiled for another architecture",
            "compile it again on this machine, or run it where it belongs, by --rpc-tracker",
        )
    try:
        opened = tvm.runtime.load_module(str(path.absolute()))[ENTRY](tvm.cpu())
    except (RuntimeError, OSError, ValueError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ArtifactError(
            f"{path}: is no library of tvm_vacc: {reason:.200}", "make one by: tvmc compile -f so"
        ) from error
    set_threads(threads)
    manifest = opened.signature.describe(path.stem)
    _require_processor(path, manifest)
    return Graph(path, manifest, opened.machine, list(opened.weights))


def _architecture(path: Path) -> bytes | None:
    """Return class, byte order and machine of an ELF file, see elf(5); None where it is none."""
    try:
        with path.open("rb") as stream:
            header = stream.read(20)
    except OSError:
        return None
    return header[4:6] + header[18:20] if header[:4] == b"\x7fELF" else None


def load_files(directory: Path, manifest: Manifest) -> Model | Graph:
    """Load the kernels and weights in `directory`, which `manifest` describes; checks no hash.

    Raises:
        ArtifactError: a file is missing or damaged, the code is for another processor, or the
            system denies it registers.
    """
    _require_processor(directory, manifest)
    machine = load_executable(directory)
    weights = [tensor.to_tvm() for tensor in map_parameters(directory, manifest)]
    if manifest.kind == "graph":
        return Graph(directory, manifest, machine, weights)
    return Model(directory, manifest, machine, weights)


def _require_processor(path: Path, manifest: Manifest) -> None:
    processor = manifest.processor
    if processor is not None and (obstacle := processor.why_not_here()):
        raise ArtifactError(f"{path}: cannot run here: {obstacle}", processor.cure())
    if processor is not None and FEATURE in processor.features and not granted():
        raise ArtifactError(
            f"{path}: the system gives this process no AMX tiles",
            f"compile it again with -mattr=-{FEATURE}",
        )
