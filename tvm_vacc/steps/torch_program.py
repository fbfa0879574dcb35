"""The first step of a compile of a program of torch.export: its ONNX graph, made or found.

python -m tvm_vacc.steps.torch_program PT2_FILE ONNX_FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tvm_vacc.cache.key import Key, tool_parts
from tvm_vacc.child_process import do_work
from tvm_vacc.frontend.export_torch import export_torch
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.steps.export_process import export_apart

_KEY = "export.key"
"""Beside the ONNX file: what it was made of."""


def make_torch_graph(program: Path, onnx_path: Path, report: Report) -> None:
    """See to it that the ONNX graph of the ``.pt2`` file `program` stands at `onnx_path`.

    Torch runs in a process of its own, unless it is imported already.

    Raises:
        OnnxError: see `export_torch`.
        ModuleNotFoundError: torch is not installed.
    """
    report(Progress("export", 0, 1, "graphs"))
    stamp = onnx_path.with_name(_KEY)
    tools = tool_parts("torch", "onnx", "onnx-ir", "onnxscript")
    digest = Key({"program": sha256_file(program), **tools}).digest
    if not (onnx_path.exists() and stamp.exists() and stamp.read_text() == digest):
        onnx_path.parent.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        export_apart(__name__, export_torch, program, onnx_path)
        stamp.write_text(digest)
    report(Progress("export", 1, 1, "graphs"))


if __name__ == "__main__":
    _program, _onnx_file = map(Path, sys.argv[1:])
    sys.exit(do_work(lambda _report: export_torch(_program, _onnx_file)))
