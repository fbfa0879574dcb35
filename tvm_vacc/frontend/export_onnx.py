"""From a checkpoint to an ONNX file without weights: they stay where they are, as external data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx import TensorProto, helper

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.glm_graph import glm_graph
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.frontend.weight_files import place_weights

OPSET = 23
"""The first with RMSNormalization and RotaryEmbedding."""

IR_VERSION = 10

Progress = Callable[[str], None]
"""Is told, in one line, how the weights were placed."""

_DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def export_onnx(
    checkpoint: Checkpoint, out_path: str | Path, *, progress: Progress = lambda _line: None
) -> Path:
    """Write the model as `out_path` (opset 23); no weight is read.

    Inputs are `input_ids` and `position_ids` `[batch, seq]` int64 and, for each layer i,
    `past_key_values.{i}.key` and `.value` `[batch, kv_heads, past, head_dim]` fp32. Outputs are
    `logits` `[batch, seq, vocab]` fp32 and `present.{i}.key` and `.value`
    `[batch, kv_heads, past+seq, head_dim]` fp32. The initialisers are the checkpoint's tensors by
    their `glm` names, in their own dtype; `Cast` to fp32 follows each that is not fp32. A matrix
    that is quantised is no initialiser, since ONNX has no type for its codes as they are stored,
    but one more input: `[out, in]` fp32, codes times scales.

    Args:
        checkpoint: from `open_checkpoint`.
        out_path: the .onnx file; its directory is made. Where the checkpoint is not below it,
            `<stem>.weights` beside it holds links to the weights (see `weight_files`).
        progress: is told how the weights were placed.

    Returns:
        `out_path` as a Path.

    Raises:
        OnnxError: `out_path` cannot be written, or the weight files not be reached from it.
    """
    out_path = Path(out_path)
    with _writing(out_path):
        out_path.parent.mkdir(parents=True, exist_ok=True)
    placed = place_weights(checkpoint.files, out_path)
    progress(f"weights: {placed.way}")
    weights = {
        name: _external(name, ref, placed.locations[ref.file])
        for name, ref in checkpoint.tensors.items()
        if name not in checkpoint.stored
    }
    quantized = [name for name in checkpoint.tensors if name in checkpoint.stored]
    graph = glm_graph(checkpoint.spec, weights, quantized)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    with _writing(out_path):
        partial = out_path.with_name(f"{out_path.name}.partial")
        partial.write_bytes(model.SerializeToString())
        os.replace(partial, out_path)  # an interrupted export leaves no half a file
    return out_path


def _external(name: str, ref: TensorRef, location: str) -> TensorProto:
    """Return the initialiser that refers to the bytes of `ref`."""
    tensor = TensorProto(name=name, data_type=_DTYPES[ref.dtype], dims=ref.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", ref.offset), ("length", ref.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into the one line a user reads."""
    try:
        yield
    except OSError as error:
        raise OnnxError(
            f"{path}: cannot be written ({error.strerror})", "choose another place"
        ) from None
