"""The first step of a compile of a program of torch.export: its ONNX graph, made or found.

python -m tvm_vacc.steps.torch_program PT2_FILE ONNX_FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tvm_vacc.cache.key import Key, tool_parts
from tvm_vacc.child_process import ChildEndedError, do_work, has_torch, run_child
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.export_torch import export_torch
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file

_KEY = "export.key"
"""Beside the ONNX file: what it was made of."""


def make_torch_graph(program: Path, onnx_path: Path, report: Report) -> None:
    """See to it that the ONNX graph of the ``.pt2`` file `program` stands at `onnx_path`.

    Torch runs in a process of its own, unless it is imported already.

    Raises:
        OnnxError: see `export_torch`; or the process ended by a fault.
        ModuleNotFoundError: torch is not installed.
    """
    report(Progress("export", 0, 1, "graphs"))
    stamp = onnx_path.with_name(_KEY)
    tools = tool_parts("torch", "onnx", "onnx-ir", "onnxscript")
    digest = Key({"program": sha256_file(program), **tools}).digest
    if not (onnx_path.exists() and stamp.exists() and stamp.read_text() == digest):
        onnx_path.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        _export_apart(program, onnx_path)
        stamp.write_text(digest)
    report(Progress("export", 1, 1, "graphs"))


def _export_apart(program: Path, onnx_path: Path) -> None:
    """Export in another process, whose 400 MB are given back: nothing behind it needs torch.

    Where torch is imported already, there is no memory to be saved: the export runs here.
    """
    if has_torch():
        export_torch(program, onnx_path)
        return
    try:
        run_child(__name__, str(program), str(onnx_path))
    except ChildEndedError as ended:
        raise OnnxError(f"{program}: the export ended: {ended}", "please report it") from ended


if __name__ == "__main__":
    _program, _onnx_file = map(Path, sys.argv[1:])
    sys.exit(do_work(lambda _report: export_torch(_program, _onnx_file)))
