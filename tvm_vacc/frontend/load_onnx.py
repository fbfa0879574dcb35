"""Reads an ONNX file's graph; weights that are external data stay where they are."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError

from tvm_vacc.errors import OnnxError


def load_onnx(path: Path) -> onnx.ModelProto:
    """Return the model at `path`, its local functions inlined, no external data read.

    Raises:
        OnnxError: the file is missing, cannot be read, is no ONNX model or truncated, or empty.
    """
    if not path.is_file():
        raise OnnxError(f"{path}: no such file", "give the path of an .onnx file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise OnnxError(f"{path}: cannot be read ({error.strerror})") from None
    except (DecodeError, ValueError) as error:
        raise OnnxError(
            f"{path}: not an ONNX model, or truncated ({error})", "export or copy it again"
        ) from error
    if not model.graph.node and not model.graph.output:
        raise OnnxError(f"{path}: holds no graph", "export or copy it again")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return model
