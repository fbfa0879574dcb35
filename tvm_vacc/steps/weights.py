"""The step behind the passes: the packed weights, streamed from the checkpoint or reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from pydantic import TypeAdapter

from relay_passes.weight_plan import PackedWeight, tensors_of
from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.artifact.weights_file import TensorEntry, WeightsWriter
from tvm_vacc.cache.key import Key, file_identity, tensor_parts, tool_parts
from tvm_vacc.cache.store import WEIGHTS, Cache, Piece
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.progress import Progress, Report
from tvm_vacc.steps.weight_stream import source_bytes, stream_weights

_FILE = "weights.safetensors"
_PLAN = TypeAdapter(PackedWeight)


def make_weights(
    plan: Sequence[PackedWeight],
    sources: Mapping[str, TensorRef],
    cache: Cache,
    writer: ArtifactWriter,
    report: Report,
    *,
    merge: bool,
    workers: int,
) -> tuple[str, ...]:
    """Put the weights into the artefact; return the names of the files.

    Args:
        plan: what is to be made.
        sources: the checkpoint's tensors, by name.
        cache: where to look for packed weights, and to keep them.
        writer: of the artefact.
        report: takes the progress.
        merge: one file rather than one a weight.
        workers: threads that read and pack.

    Raises:
        ArtifactError: the disk has not the room.
        CheckpointError: a weight does not fit its dtype, or the checkpoint was changed meanwhile.
    """
    if merge:
        files = {_FILE: list(plan)}
    else:
        files = {f"weights/{index:05}.safetensors": [w] for index, w in enumerate(plan)}
    total = sum(source_bytes(weight, sources) for weight in plan)
    progress = _Bytes(total, len(plan), report)
    for name, weights in files.items():
        label = WEIGHTS if merge else f"{WEIGHTS} {weights[0].name}"
        key = _key(weights, sources)
        with cache.piece(WEIGHTS, key, label=label, waiting=progress.waiting) as piece:
            if piece.is_ready:
                for weight in weights:
                    progress.add(source_bytes(weight, sources), made=1, skipped=True)
            else:
                _write(piece, weights, sources, workers, progress)
            writer.adopt(name, piece.place(_FILE, writer.directory / name))
    return tuple(files)


class _Bytes:
    """Counts the bytes of the checkpoint that are done, and the weights made of them."""

    def __init__(self, total: int, weights: int, report: Report) -> None:
        self._done, self._skipped, self._total, self._report = 0, 0, total, report
        self._made, self._weights = 0, weights
        self.add(0)

    def add(self, count: int, *, made: int = 0, skipped: bool = False) -> None:
        """Count bytes, and weights that are whole with them."""
        self._done += count
        self._made += made
        self._skipped += count if skipped else 0
        self._tell(f"{self._made}/{self._weights} weights")

    def waiting(self) -> None:
        """Say that another process is at it."""
        self._tell("waiting for another compile that makes the same weights")

    def _tell(self, note: str) -> None:
        self._report(Progress("weights", self._done, self._total, "bytes", note, self._skipped))


def _write(
    piece: Piece,
    weights: Sequence[PackedWeight],
    sources: Mapping[str, TensorRef],
    workers: int,
    progress: _Bytes,
) -> None:
    """Write what is not in the file yet."""
    before = _identities(weights, sources)
    entries = [TensorEntry(*astuple(tensor)) for tensor in tensors_of(weights)]
    path = piece.directory / _FILE
    with WeightsWriter(path, entries, resumable=True) as file:
        done = 0
        for weight in weights:
            done += len(weight.tensors)
            if done <= file.finished:
                progress.add(source_bytes(weight, sources), made=1, skipped=True)
        for part in stream_weights(weights, sources, workers, finished=file.finished):
            file.append(part.name, part.array)
            progress.add(part.read, made=part.ends_weight)
    if _identities(weights, sources) != before:
        raise CheckpointError(
            f"{next(iter(before))}: was changed while it was read", "compile again"
        )
    piece.finish({_FILE: FileEntry(file.sha256, file.nbytes)})


def _identities(
    weights: Sequence[PackedWeight], sources: Mapping[str, TensorRef]
) -> dict[Path, str]:
    files = {sources[name].file for weight in weights for name in weight.reads}
    return {file: file_identity(file) for file in sorted(files)}


def _key(weights: Sequence[PackedWeight], sources: Mapping[str, TensorRef]) -> Key:
    used = {name: sources[name] for weight in weights for name in weight.reads}
    dtypes = {tensor.dtype for tensor in tensors_of(weights)}
    layouts = {weight.layout for weight in weights}
    return Key(
        {
            "dtypes": ", ".join(sorted(dtypes)),
            "layouts": ", ".join(sorted(layouts)),
            **{f"weight {w.name}": _PLAN.dump_json(w).decode() for w in weights},
            **tensor_parts(used),
            **tool_parts("apache-tvm", "numpy", "ml_dtypes"),
        }
    )
