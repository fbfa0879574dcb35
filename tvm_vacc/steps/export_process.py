"""Exports a checkpoint in a process of its own, so that torch's memory is given back.

Importing torch takes 200 MB and tracing as much again; nothing after the export needs either.
Usage: python -m tvm_vacc.steps.export_process CHECKPOINT ONNX_FILE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tvm_vacc.child_process import ChildEndedError, do_work, has_torch, run_child
from tvm_vacc.errors import OnnxError


def export_graph(checkpoint: Path, onnx_path: Path) -> None:
    """Write the checked ONNX file of the checkpoint in a directory; see `export_onnx`.

    Where torch is imported already, there is no memory to be saved: the export runs here.

    Raises:
        VaccError: whatever the export raises, in whichever process it runs.
        ModuleNotFoundError: torch is not installed.
    """
    export_apart(__name__, _export, checkpoint, onnx_path)


def export_apart(
    module: str, export: Callable[[Path, Path], None], model: Path, onnx_path: Path
) -> None:
    """Export `model` by ``python -m module``; by `export` here, where torch is imported already.

    Raises:
        VaccError: whatever the export raises, in whichever process it runs.
        ModuleNotFoundError: torch is not installed.
    """
    if has_torch():
        export(model, onnx_path)
        return
    try:
        run_child(module, str(model), str(onnx_path))
    except ChildEndedError as ended:
        raise OnnxError(f"{model}: the export ended: {ended}", "please report it") from ended


def _export(checkpoint: Path, onnx_path: Path) -> None:
    from tvm_vacc.frontend.check_onnx import check_onnx
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.frontend.export_onnx import export_onnx

    opened = open_checkpoint(checkpoint)
    quantized = {name: matrix.codes.shape for name, matrix in opened.stored.items()}
    check_onnx(export_onnx(opened, onnx_path), quantized)


if __name__ == "__main__":
    _checkpoint, _onnx_file = map(Path, sys.argv[1:])
    sys.exit(do_work(lambda _report: _export(_checkpoint, _onnx_file)))
