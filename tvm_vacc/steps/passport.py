"""The last step of a compile before its artefact is put in place: the accuracy passport."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tvm_vacc.artifact.manifest import FileEntry, Manifest
from tvm_vacc.artifact.passport import Accuracy, Passport
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.cache.key import Key, digest_of, tensor_parts, tool_parts
from tvm_vacc.cache.store import REFERENCE, Cache, Piece
from tvm_vacc.child_process import ChildEndedError
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import ArtifactError, CheckpointError, VaccWarning
from tvm_vacc.frontend.checkpoint import Checkpoint, open_checkpoint
from tvm_vacc.limits import FP16_MAX
from tvm_vacc.passport.processes import ACCURACY, run_measure, run_reference
from tvm_vacc.passport.reference_files import LOGITS, hidden_file, ranges_file, read_ranges
from tvm_vacc.passport.yardstick import (
    YARDSTICK_FILE,
    Predictions,
    Text,
    read_yardstick_text,
)
from tvm_vacc.progress import Progress, Report
from tvm_vacc.runtime.tokenizer import TOKENIZER_FILE, Tokenizer
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.steps.model_entry import choose_lengths
from tvm_vacc.wording import layers_text

_RESULT = "accuracy.json"


def why_no_passport(options: CompileOptions) -> str:
    """Return why a compile measures no accuracy; empty where it does."""
    if options.accuracy is None:
        return "not asked for"
    if options.type != "huggingface":
        return f"the {options.checkpoint.suffix} file has no checkpoint to be compared with"
    if not (options.checkpoint / TOKENIZER_FILE).is_file():
        return f"the checkpoint has no {TOKENIZER_FILE}"
    return ""


def check_yardstick(options: CompileOptions) -> None:
    """Refuse a text that the passport cannot be measured on, before any work.

    Raises:
        ConfigError: the text cannot be used, or the context is longer than the model's.
        CheckpointError: the tokenizer is not the model's.
    """
    if not why_no_passport(options):
        spec = open_checkpoint(options.checkpoint).spec
        _yardstick(options, choose_lengths(options, spec)[1])


def make_passport(
    options: CompileOptions,
    manifest: Manifest,
    cache: Cache,
    writer: ArtifactWriter,
    report: Report,
) -> Passport | None:
    """Measure the accuracy of what is in `writer`; None where `why_no_passport` says why.

    What the reference predicts becomes a file of the artefact, for `tvmc verify`.

    Args:
        options: what the user asked for.
        manifest: of the artefact, but for the passport. Where its processor is not this machine's,
            nothing is measured.
        cache: keeps the reference, and what was measured.
        writer: of the artefact, whose kernels and weights are in it.
        report: takes the progress.

    Raises:
        ConfigError: the text cannot be used.
        CheckpointError: the tokenizer is not the model's.
        ArtifactError: what was compiled answers no numbers, overflows fp16, or crashes.

    Warns:
        VaccWarning: keys or values come near the end of fp16.
    """
    wanted = options.accuracy
    if wanted is None or why_no_passport(options):
        return None
    checkpoint, text = _yardstick(options, manifest.context)
    key = _reference_key(checkpoint, text)
    with _reference(checkpoint, text, key, cache, report) as piece:
        place = piece.place(YARDSTICK_FILE, writer.directory / YARDSTICK_FILE)
        writer.adopt(YARDSTICK_FILE, place)
        note = _why_not_here(manifest)
        accuracy: Accuracy | None = None
        if not note:
            try:
                accuracy = _measure(manifest, key, piece.directory, cache, writer, report)
            except ChildEndedError as ended:
                if ended.signal != signal.SIGILL:
                    problem = f"{manifest.name}: running it ended by {ended}"
                    raise ArtifactError(problem, "please report it") from ended
                note = "this machine's processor lacks an instruction of the target's"
    if accuracy is not None:
        _warn_of_fp16(accuracy, manifest)
    predictions = Predictions.load(writer.directory / YARDSTICK_FILE)
    return Passport(
        text=text.name,
        text_sha256=text.sha256,
        tokens=predictions.scored,
        reference_perplexity=predictions.perplexity,
        tolerance=wanted.tolerance,
        accuracy=accuracy,
        note=note,
        promoted=tuple(
            layer
            for layer, cache in enumerate(manifest.caches[::2])
            if cache.dtype not in (options.relax_dtype, "int8")
        ),
    )


def promoted_layers(
    options: CompileOptions, context: int, cache: Cache, report: Report
) -> tuple[int, ...]:
    """Return the layers whose keys or values may overflow a cache of fp16.

    Those are the ones that come within a factor of two of its end on the yardstick text, in the
    reference. None where the cache is of another type, or `why_no_passport` says why nothing is
    measured.

    Raises:
        VaccError: see `make_passport`.
    """
    quantization = options.quantization
    has_codes = quantization is not None and quantization.kv8
    if options.relax_dtype != "float16" or has_codes or why_no_passport(options):
        return ()
    checkpoint, text = _yardstick(options, context)
    with _reference(checkpoint, text, _reference_key(checkpoint, text), cache, report) as piece:
        largest = read_ranges(piece.directory, checkpoint.spec.layers).max(axis=1)
    return tuple(np.flatnonzero(largest > FP16_MAX / 2).tolist())


def _yardstick(options: CompileOptions, context: int) -> tuple[Checkpoint, Text]:
    """Return the checkpoint and the text that it is measured on."""
    wanted = options.accuracy
    assert wanted is not None
    checkpoint = open_checkpoint(options.checkpoint)
    count = min(wanted.tokens, context)
    text = read_yardstick_text(wanted.text, Tokenizer.from_directory(checkpoint.path), count)
    if max(text.tokens) >= checkpoint.spec.vocab:
        raise CheckpointError(
            f"{checkpoint.path / TOKENIZER_FILE}: makes token {max(text.tokens)}, the model has "
            f"{checkpoint.spec.vocab}",
            "put the model's own tokenizer there",
        )
    return checkpoint, text


@contextmanager
def _reference(
    checkpoint: Checkpoint, text: Text, key: Key, cache: Cache, report: Report
) -> Iterator[Piece]:
    """Lend what the reference predicts, made where the cache does not have it."""
    waiting = Progress("reference", 0, 1, "bytes", "waiting for another compile that makes it")
    with cache.piece(REFERENCE, key, waiting=lambda: report(waiting)) as piece:
        if not piece.is_ready:
            _make_reference(checkpoint, text, piece, report)
        yield piece


def _make_reference(checkpoint: Checkpoint, text: Text, piece: Piece, report: Report) -> None:
    first = max(0, text.prefix - 1)  # the position that predicts the first token of the text
    try:
        run_reference(checkpoint.path, text.tokens, first, piece.directory, report)
    except ChildEndedError as ended:
        problem = f"{checkpoint.path}: the reference run ended by {ended}"
        raise CheckpointError(problem, "please report it; --no-passport leaves it out") from ended
    layers = range(checkpoint.spec.layers)
    of_layers = [*map(hidden_file, layers), *map(ranges_file, layers)]
    _finish(piece, [YARDSTICK_FILE, LOGITS, *of_layers])


def _measure(
    manifest: Manifest,
    reference_key: Key,
    reference: Path,
    cache: Cache,
    writer: ArtifactWriter,
    report: Report,
) -> Accuracy:
    """Measure, or find in the cache what was measured on the same files."""
    files = {f"file {name}": entry.sha256[:16] for name, entry in writer.adopted.items()}
    key = Key({"reference": reference_key.digest, "prefill": str(manifest.prefill), **files})
    with cache.piece("passport", key) as piece:
        if not piece.is_ready:
            described = piece.directory / "described.json"
            described.write_text(manifest.to_json(), "utf-8")
            result = piece.directory / _RESULT
            run_measure(writer.directory, described, reference, result, report)
            _finish(piece, [_RESULT])
        return ACCURACY.validate_json((piece.directory / _RESULT).read_bytes())


def _finish(piece: Piece, names: list[str]) -> None:
    paths = {name: piece.directory / name for name in names}
    piece.finish({n: FileEntry(sha256_file(p), p.stat().st_size) for n, p in paths.items()})


def _reference_key(checkpoint: Checkpoint, text: Text) -> Key:
    return Key(
        {
            "config": digest_of(checkpoint.spec.to_json()),
            "text": digest_of([text.tokens, text.prefix]),
            "files": digest_of([LOGITS, hidden_file(0), ranges_file(0)]),
            **tensor_parts(checkpoint.tensors),
            **tensor_parts({f"{name} scales": c.scales for name, c in checkpoint.stored.items()}),
            **tool_parts("numpy", "torch", "transformers"),
        }
    )


def _why_not_here(manifest: Manifest) -> str:
    """Return why an artefact's code cannot run on this machine; empty where it may."""
    if manifest.processor is None:
        return "it is C sources for another toolchain"
    return manifest.processor.why_not_here()


def _warn_of_fp16(accuracy: Accuracy, manifest: Manifest) -> None:
    near = [
        index
        for index, layer in enumerate(accuracy.layers)
        for step in [layer.prefill, layer.decode]
        if manifest.caches[2 * index].dtype == "float16"
        and max(step.key, step.value) > FP16_MAX / 2
    ]
    if near:
        layers = layers_text(list(dict.fromkeys(near)))
        warnings.warn(
            f"{manifest.name}: keys or values of {layers} come within a factor of two of "
            "where fp16 ends; other texts may overflow: compile with backend.dtype: bf16",
            VaccWarning,
            stacklevel=2,
        )
