"""The step between kernels and weights: codes that calibration chooses, or those in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from relay_passes.weight_plan import PackedWeight, Source
from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.cache.key import Key, digest_of, tensor_parts, tool_parts
from tvm_vacc.cache.store import CODES, Cache, Piece
from tvm_vacc.calibration.codes_record import (
    CODES_SUFFIX,
    SCALES_SUFFIX,
    codes_names,
    read_record,
)
from tvm_vacc.calibration.device import require_device
from tvm_vacc.calibration.options import CodesWanted
from tvm_vacc.calibration.process import run_calibration
from tvm_vacc.calibration.samples import calibration_samples
from tvm_vacc.child_process import ChildEndedError
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import CheckpointError, ConfigError, DatasetError
from tvm_vacc.frontend.checkpoint import Checkpoint, open_checkpoint
from tvm_vacc.frontend.glm_layout import HEAD
from tvm_vacc.frontend.safetensors_index import read_safetensors_header
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.progress import Progress, Report
from tvm_vacc.quantize.scheme import GPTQ, SCHEMES
from tvm_vacc.runtime.tokenizer import TOKENIZER_FILE, Tokenizer
from tvm_vacc.safe_io import sha256_file


@dataclass(frozen=True)
class ChosenCodes:
    """What the weights are made of.

    Attributes:
        plan: how; where codes are calibrated, they and their scales are the sources.
        sources: tensors of the checkpoint, codes and scales, by name.
        weights: what the codes cost.
    """

    plan: tuple[PackedWeight, ...]
    sources: Mapping[str, TensorRef]
    weights: tuple[CalibratedWeight, ...] = ()


def read_samples(options: CompileOptions, report: Report) -> np.ndarray | None:
    """Return what calibration runs on, read before any work, so that its errors come at once.

    Args:
        options: what the user asked for.
        report: takes the progress of large files.

    Returns:
        Token ids ``[samples, seqlen]`` int64 that the model knows; None where nothing is
        calibrated.

    Raises:
        ConfigError: the device is not there.
        DatasetError: the text cannot be used.
        CheckpointError: the tokenizer is missing or not the model's.
    """
    if options.quantization is None or options.quantization.quantizer != GPTQ:
        return None
    checkpoint = open_checkpoint(options.checkpoint)
    samples = _samples(checkpoint, options, report)
    try:
        require_device(options.calibration.device)
    except ChildEndedError as ended:
        problem = f"frontend.quantize.device: torch does not start: {ended}"
        raise ConfigError(problem, "install torch again") from ended
    return samples


def choose_codes(
    plan: Sequence[PackedWeight],
    sources: Mapping[str, TensorRef],
    samples: np.ndarray | None,
    options: CompileOptions,
    cache: Cache,
    report: Report,
) -> ChosenCodes:
    """Calibrate the weights whose quantiser is `gptq`; a plan without any stays as it is.

    Args:
        plan: how the weights are made.
        sources: what they are made of, by name.
        samples: of `read_samples`.
        options: what the user asked for.
        cache: where to look for codes, and to keep them, finished layers of a killed run included.
        report: takes the progress.

    Raises:
        ConfigError: the device is not there.
        CheckpointError: a weight is not finite.
    """
    wanted = _wanted(plan)
    if wanted is None:
        return ChosenCodes(tuple(plan), sources)
    assert samples is not None
    checkpoint = open_checkpoint(options.checkpoint)
    names = list(codes_names(checkpoint.spec.layers, head=wanted.head))
    waiting = Progress("calibrate", 0, len(names), "layers", "waiting for another compile")
    key = _key(checkpoint, samples, wanted, options)
    with cache.piece(CODES, key, waiting=lambda: report(waiting)) as piece:
        if not piece.is_ready:
            try:
                run_calibration(
                    checkpoint.path, samples, wanted, options.calibration, piece.directory, report
                )
            except ChildEndedError as ended:
                problem = f"{checkpoint.path}: calibration ended by {ended}"
                cure = "compile again: it goes on with the layer it had come to"
                raise CheckpointError(problem, cure) from ended
            _finish(piece, names)
        return _with_codes(plan, sources, piece.directory, names)


def _wanted(plan: Sequence[PackedWeight]) -> CodesWanted | None:
    """Return what the plan leaves to calibration."""
    ours = [w for w in plan if w.quantized is not None and w.quantized.quantizer == GPTQ]
    inner = [w.quantized for w in ours if w.kind != "head" and w.quantized is not None]
    if not inner:
        return None
    bits = SCHEMES[inner[0].scheme].weight_bits
    return CodesWanted(bits, inner[0].group_size if bits == 4 else 0, len(ours) > len(inner))


def _samples(checkpoint: Checkpoint, options: CompileOptions, report: Report) -> np.ndarray:
    file = checkpoint.path / TOKENIZER_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{file}: is missing, and calibration reads text", "put the model's tokenizer there"
        )
    longest = checkpoint.spec.max_positions
    if options.texts.seqlen > longest:
        raise DatasetError(
            f"dataset.seqlen: {options.texts.seqlen}, the model knows {longest} positions",
            f"write at most {longest}",
        )
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    samples = calibration_samples(options.texts, tokenizer, report)
    if samples.max() >= checkpoint.spec.vocab:
        raise CheckpointError(
            f"{file}: makes token {samples.max()}, the model has {checkpoint.spec.vocab}",
            "put the model's own tokenizer there",
        )
    return samples


def _key(
    checkpoint: Checkpoint, samples: np.ndarray, wanted: CodesWanted, options: CompileOptions
) -> Key:
    how = dataclasses.asdict(options.calibration)
    how["device"] = options.calibration.device.partition(":")[0]  # which one makes no difference
    return Key(
        {
            "config": digest_of(checkpoint.spec.to_json()),
            "samples": hashlib.sha256(samples.tobytes()).hexdigest()[:16],
            **{name: str(value) for name, value in dataclasses.asdict(wanted).items()},
            **{name: str(value) for name, value in how.items()},
            **tensor_parts(checkpoint.tensors),
            **tool_parts("numpy", "torch", "transformers"),
        }
    )


def _finish(piece: Piece, names: Sequence[str]) -> None:
    files = {}
    for name in names:
        record = read_record(piece.directory, name)
        assert record is not None, name
        path = piece.directory / f"{name}.json"
        files[f"{name}.safetensors"] = record.file
        files[path.name] = FileEntry(sha256_file(path), path.stat().st_size)
    piece.finish(files)


def _with_codes(
    plan: Sequence[PackedWeight],
    sources: Mapping[str, TensorRef],
    directory: Path,
    names: Sequence[str],
) -> ChosenCodes:
    """Put the codes and scales in `directory` in the place of what they were made of."""
    tensors = dict(sources)
    weights: list[CalibratedWeight] = []
    for name in names:
        tensors |= read_safetensors_header(directory / f"{name}.safetensors")
        record = read_record(directory, name)
        assert record is not None, name
        weights += record.weights
    return ChosenCodes(tuple(map(_by_codes, plan)), tensors, tuple(weights))


def _by_codes(weight: PackedWeight) -> PackedWeight:
    if weight.quantized is None or weight.quantized.quantizer != GPTQ:
        return weight
    # A tied head is stored under the embedding's name.
    made = [HEAD] if weight.kind == "head" else [source.name for source in weight.sources]
    return dataclasses.replace(
        weight,
        sources=tuple(Source(name + CODES_SUFFIX) for name in made),
        scales=tuple(Source(name + SCALES_SUFFIX) for name in made),
    )
