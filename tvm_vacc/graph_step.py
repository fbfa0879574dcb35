"""The first step of a compile: the ONNX graph of a checkpoint, exported or found in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.cache.key import Key, digest_of, tool_parts
from tvm_vacc.cache.store import Cache
from tvm_vacc.export_process import export_graph
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.weight_files import place_weights
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file

GRAPH = "model.onnx"

_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript")


def make_graph(checkpoint: Checkpoint, path: Path, cache: Cache, report: Report) -> str:
    """See to it that the checkpoint's graph stands at `path`; return its SHA-256.

    Its weights stay in the checkpoint, and links to them stand beside it.

    Raises:
        CheckpointError: see `export_onnx`.
        OnnxError: see `export_onnx` and `check_onnx`.
    """
    report(Progress("export", 0, 1, "graphs"))
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = place_weights(sorted({ref.file for ref in checkpoint.tensors.values()}), path)
    with cache.piece("graph", _key(checkpoint, placed.locations)) as piece:
        if piece.is_ready:
            shutil.copyfile(piece.directory / GRAPH, path)
        else:
            export_graph(checkpoint.path, path)
            shutil.copyfile(path, piece.directory / GRAPH)
            digest = sha256_file(piece.directory / GRAPH)
            piece.finish({GRAPH: FileEntry(digest, path.stat().st_size)})
        report(Progress("export", 1, 1, "graphs"))
        return piece.files[GRAPH].sha256


def _key(checkpoint: Checkpoint, locations: Mapping[Path, str]) -> Key:
    """The graph tells of the tensors' places, not of their content."""
    tensors = {
        name: [locations[ref.file], ref.offset, ref.shape, ref.dtype]
        for name, ref in checkpoint.tensors.items()
    }
    return Key(
        {
            "config": digest_of(checkpoint.spec.to_json()),
            "tensors": digest_of(tensors),
            **tool_parts(*_TOOLS),
        }
    )
