"""The first step of a compile: the ONNX graph of a checkpoint, exported or found in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.cache.key import Key, digest_of, tool_parts
from tvm_vacc.cache.store import Cache
from tvm_vacc.frontend.check_onnx import check_onnx
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.read_ahead import read_ahead
from tvm_vacc.frontend.weight_files import PlacedWeights, place_weights
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file

GRAPH = "model.onnx"


class Graph(NamedTuple):
    """The graph of a checkpoint.

    Attributes:
        parts: what it and the matrices that are quantised depend on, for the key of the kernels.
        stored: those matrices, by name, their files beside the ONNX file.
    """

    parts: dict[str, str]
    stored: dict[str, StoredCodes]


def make_graph(checkpoint: Checkpoint, path: Path, cache: Cache, report: Report) -> Graph:
    """See to it that the checkpoint's graph stands at `path`.

    Its weights stay in the checkpoint, and links to them stand beside it.

    Raises:
        CheckpointError: see `export_onnx`.
        OnnxError: see `export_onnx` and `check_onnx`.
    """
    report(Progress("export", 0, 1, "graphs"))
    path.parent.mkdir(parents=True, exist_ok=True)
    placed = place_weights(checkpoint.files, path)
    with cache.piece("graph", _key(checkpoint, placed.locations)) as piece:
        if piece.is_ready:
            shutil.copyfile(piece.directory / GRAPH, path)
        else:
            # A checkpoint that was not compiled before; the passes leave the disk alone.
            read_ahead(checkpoint.files)
            quantized = {name: matrix.codes.shape for name, matrix in checkpoint.stored.items()}
            check_onnx(export_onnx(checkpoint, path), quantized)
            shutil.copyfile(path, piece.directory / GRAPH)
            digest = sha256_file(piece.directory / GRAPH)
            piece.finish({GRAPH: FileEntry(digest, path.stat().st_size)})
        report(Progress("export", 1, 1, "graphs"))
        parts = {"graph": piece.files[GRAPH].sha256}
        return Graph(
            parts | _codes_part(checkpoint, placed), _placed_codes(checkpoint, placed, path)
        )


def _placed_codes(
    checkpoint: Checkpoint, placed: PlacedWeights, path: Path
) -> dict[str, StoredCodes]:
    files = {file: path.parent / name for file, name in placed.locations.items()}
    return {name: matrix.in_files(files) for name, matrix in checkpoint.stored.items()}


def _codes_part(checkpoint: Checkpoint, placed: PlacedWeights) -> dict[str, str]:
    """Describe where codes and scales lie, of which the graph does not tell."""
    names = {file: Path(name) for file, name in placed.locations.items()}
    codes = [matrix.in_files(names) for matrix in checkpoint.stored.values()]
    return {"stored codes": digest_of(str(codes))} if codes else {}


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
            **tool_parts("numpy", "onnx"),
        }
    )
