"""The two halves of a passport, each a process of its own.

    python -m tvm_vacc.passport.processes reference CHECKPOINT TEXT DIRECTORY
    python -m tvm_vacc.passport.processes measure ARTEFACT MANIFEST DIRECTORY RESULT

The first needs torch, whose memory is given back; the second runs compiled code, which may be for
another processor.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tvm_vacc.artifact.passport import Accuracy
from tvm_vacc.child_process import do_work, has_torch, run_child
from tvm_vacc.passport.yardstick import YARDSTICK_FILE, Predictions
from tvm_vacc.progress import Progress, Report

ACCURACY: TypeAdapter[Accuracy] = TypeAdapter(Accuracy)
"""Reads and writes the result of `run_measure`."""

_TEXT = "text.json"


def run_reference(
    checkpoint: Path, tokens: tuple[int, ...], first: int, directory: Path, report: Report
) -> None:
    """Run `make_reference`; where torch is imported already, in this process.

    Raises:
        VaccError: the checkpoint cannot be read.
        ModuleNotFoundError: torch is not installed.
        ChildEndedError: the process ended otherwise.
    """
    text = directory / _TEXT
    text.write_text(json.dumps({"tokens": tokens, "first": first}))
    if has_torch():
        _reference(report, str(checkpoint), str(text), str(directory))
    else:
        arguments = ("reference", str(checkpoint), str(text), str(directory))
        run_child(__name__, *arguments, report=report)


def run_measure(
    artefact: Path, manifest: Path, reference: Path, result: Path, report: Report
) -> None:
    """Run `measure` on files that `manifest` describes and write the `Accuracy` to `result`.

    Raises:
        VaccError: whatever `measure` raises.
        ChildEndedError: the process ended otherwise.
    """
    arguments = ("measure", str(artefact), str(manifest), str(reference), str(result))
    run_child(__name__, *arguments, report=report)


def _reference(report: Report, checkpoint: str, text: str, directory: str) -> None:
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.passport.reference import make_reference

    told: dict[str, Any] = json.loads(Path(text).read_text())
    opened = open_checkpoint(checkpoint)
    make_reference(opened, told["tokens"], told["first"], Path(directory), report)


def _measure(report: Report, artefact: str, manifest: str, reference: str, result: str) -> None:
    from tvm_vacc.artifact.manifest import read_manifest
    from tvm_vacc.passport.measure import measure
    from tvm_vacc.passport.reference_files import ReferenceFiles
    from tvm_vacc.runtime.executable import set_threads
    from tvm_vacc.runtime.load import load_files
    from tvm_vacc.runtime.model import Model

    set_threads(None)
    model = load_files(Path(artefact), read_manifest(Path(manifest)))
    assert isinstance(model, Model)
    accuracy = measure(
        model,
        Predictions.load(Path(artefact) / YARDSTICK_FILE),
        ReferenceFiles.open(Path(reference), model.spec.layers),
        lambda done, total: report(Progress("passport", done, total, "tokens")),
    )
    Path(result).write_bytes(ACCURACY.dump_json(accuracy))


if __name__ == "__main__":
    _name, *_arguments = sys.argv[1:]
    _halves: dict[str, Callable[..., None]] = {"reference": _reference, "measure": _measure}
    sys.exit(do_work(lambda report: _halves[_name](report, *_arguments)))
