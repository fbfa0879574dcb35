"""Exports a checkpoint in a process of its own, so that torch's memory is given back.

Importing torch takes 200 MB and tracing as much again; nothing after the export needs either.
Usage: python -m tvm_vacc.export_process CHECKPOINT ONNX_FILE
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from tvm_vacc import errors
from tvm_vacc.errors import OnnxError, VaccError

_REFUSED = 4


def export_graph(checkpoint: Path, onnx_path: Path) -> None:
    """Write the checked ONNX file of the checkpoint in a directory; see `export_onnx`.

    Where torch is imported already, there is no memory to be saved: the export runs here.

    Raises:
        VaccError: whatever the export raises, in whichever process it runs.
        ModuleNotFoundError: torch is not installed.
    """
    if sys.modules.get("torch") is not None:
        _export(checkpoint, onnx_path)
        return
    if find_spec("torch") is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    command = [sys.executable, "-m", __name__, str(checkpoint), str(onnx_path)]
    # The pipe to its standard input closes when this process ends, however it does.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        answers, complaints = child.stdout, child.stderr
        assert answers is not None
        assert complaints is not None
        notes: list[str] = []
        drain = threading.Thread(target=lambda: notes.append(complaints.read()))
        drain.start()
        try:
            answer = answers.read()
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            drain.join()
    if code == _REFUSED:
        refused = json.loads(answer)
        raise getattr(errors, refused["class"])(refused["message"], refused["cure"])
    if code:
        last = notes[0].strip().splitlines()[-1:] or [f"exit code {code}"]
        raise OnnxError(f"{checkpoint}: the export ended: {last[0]}", "please report it")


def _export(checkpoint: Path, onnx_path: Path) -> None:
    from tvm_vacc.frontend.check_onnx import check_onnx
    from tvm_vacc.frontend.checkpoint import open_checkpoint
    from tvm_vacc.frontend.export_onnx import export_onnx

    check_onnx(export_onnx(open_checkpoint(checkpoint), onnx_path))


def _main(checkpoint: str, onnx_path: str) -> int:
    """Export; an error of the user's goes to standard output as JSON."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _export(Path(checkpoint), Path(onnx_path))
    except VaccError as error:
        refused = {"class": type(error).__name__, "message": error.message, "cure": error.cure}
        print(json.dumps(refused))
        return _REFUSED
    return 0


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # past the buffer, whose lock would outlive the interpreter
    os._exit(1)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
