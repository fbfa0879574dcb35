"""What a compile would do and take, printed before any of it is done."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal

from tvm_vacc.tvmc._report import print_facts, print_storage

if TYPE_CHECKING:
    from tvm_vacc.config import CompileOptions
    from tvm_vacc.estimate import Estimate


def show_plan(
    options: CompileOptions, target: str, passes: str | None, output: Path, *, passport: bool = True
) -> None:
    """Print what would be compiled, for what, by which passes, to where, and what it takes.

    Args:
        options: what the user asked for.
        target: what for.
        passes: their names; None where the graph decides.
        output: the artefact's directory.
        passport: whether accuracy is measured where it can be.
    """
    from tvm_vacc.estimate import estimate
    from tvm_vacc.pipeline import linear_dtype
    from tvm_vacc.steps.passport import why_no_passport
    from tvm_vacc.target_string import make_target

    tvm_target = make_target(target)
    linears = linear_dtype(options.relax_dtype, options.products, tvm_target)
    needed = estimate(options, linears)
    reason = why_no_passport(options) if passport else "not asked for"
    tokens = _passport_tokens(options, reason)
    place = next(path for path in output.absolute().parents if path.is_dir())
    print_facts(
        {
            "model": f"{options.checkpoint} ({options.type})",
            "target": str(tvm_target),
            "dtype": options.dtype,
            "prefill": options.prefill or None,
            "context": options.context or None,
            "passes": passes,
            "output": output,
            "weights": f"{decimal(needed.weights)}, packed of {decimal(needed.read)}",
            "disk": f"{decimal(shutil.disk_usage(place).free)} are free at {place}",
            "KV cache": _kv_cache(needed.kv_token, options.context),
            "memory": f"about {decimal(needed.memory)} while compiling",
            "time": f"about {about(needed.seconds)}, on two cores, passport and calibration aside",
            "calibration": _calibration(options, needed),
            "passport": _passport(needed, tokens, reason),
            "in all": _in_all(options, needed, tokens),
        }
    )
    if needed.storage:
        print_storage(needed.storage)


def show_graph_storage(options: CompileOptions, target: str) -> None:
    """Read a file of a graph, run its passes, and print what its weights would become.

    Raises:
        VaccError: the graph cannot be compiled.
    """
    from relay_passes.bundle_params import ENTRY
    from relay_passes.weight_plan import read_plan
    from tvm_vacc.compiler import passes_of
    from tvm_vacc.pipeline import run_pipeline
    from tvm_vacc.steps.model_entry import open_graph
    from tvm_vacc.steps.stored_weights import storage_report
    from tvm_vacc.target_string import make_target

    with tempfile.TemporaryDirectory() as workspace:  # what is written for it is to go
        model = open_graph(dataclasses.replace(options, workspace=Path(workspace)))
        imported = model.read(False)
        steps = passes_of(model, options, make_target(target))
        module, _ = run_pipeline(imported.module, steps)
        print_storage(storage_report(read_plan(module[ENTRY]), imported.weights))


def about(seconds: float) -> str:
    """Return a duration to two digits: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _kv_cache(token: int, context: int) -> str | None:
    if not token:
        return None
    whole = f", {decimal(token * context)} for a context of {context}" if context else ""
    return f"{decimal(token)} a token{whole}"


def _calibration_tokens(options: CompileOptions) -> int:
    from tvm_vacc.quantize.scheme import GPTQ

    if options.quantization is None or options.quantization.quantizer != GPTQ:
        return 0
    return options.texts.nsamples * options.texts.seqlen


def _calibration(options: CompileOptions, needed: Estimate) -> str | None:
    tokens = _calibration_tokens(options)
    if not tokens:
        return None
    return (
        f"{options.texts.nsamples} samples of {options.texts.seqlen} tokens, about "
        f"{about(needed.calibration_seconds(tokens))} and "
        f"{decimal(needed.calibration_memory(tokens))} of memory for GPTQ"
    )


def _passport_tokens(options: CompileOptions, reason: str) -> int:
    if reason or options.accuracy is None:
        return 0
    return min(options.accuracy.tokens, options.context or options.accuracy.tokens)


def _passport(needed: Estimate, tokens: int, reason: str) -> str:
    if reason:
        return f"none: {reason}"
    return (
        f"accuracy on {tokens} tokens, about {about(needed.reference_seconds(tokens))} and "
        f"{decimal(needed.reference_memory)} of memory for the reference"
    )


def _in_all(options: CompileOptions, needed: Estimate, measured: int) -> str:
    """Return the time of all phases, and the memory of those that run beside the compiler."""
    calibrated = _calibration_tokens(options)
    seconds, beside = needed.seconds, 0
    if calibrated:
        seconds += needed.calibration_seconds(calibrated)
        beside = needed.calibration_memory(calibrated)
    if measured:
        seconds += needed.reference_seconds(measured)
        beside = max(beside, needed.reference_memory)
    return f"about {about(seconds)}, {decimal(needed.memory + beside)} of memory at the peak"
