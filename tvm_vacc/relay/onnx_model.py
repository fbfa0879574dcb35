"""Changes to an ONNX model in memory that the arguments of `relay.frontend.from_onnx` ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from tvm_vacc.errors import ConfigError, OnnxError
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors

_INLINE_BYTES = 1024
"""Bytes of a frozen tensor up to which it stays in the graph: the importer can read it there."""

_STEERING = {"Clip", "Dropout", "OneHot", "Pad", "Range", "Resize", "Upsample"}
"""ONNX operators whose operands of floats say what to do: these are never parameters."""

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def copy_model(model: onnx.ModelProto | str | Path) -> onnx.ModelProto:
    """Return a model of the caller's own, all its weights in memory.

    Raises:
        OnnxError: the file cannot be read, or weights are somewhere else.
    """
    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for tensor in copy.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                raise OnnxError(
                    f"the ONNX model: tensor {tensor.name} lies in a file of its own",
                    "pass the path of the model, or load it by onnx.load with external data",
                )
        return copy
    path = Path(model)
    copy = load_onnx(path)
    external_tensors(copy, path)  # refuses files that are damaged or lie elsewhere
    external_data_helper.load_external_data_for_model(copy, str(path.parent))
    return copy


def set_dtypes(model: onnx.ModelProto, dtypes: Mapping[str, str]) -> None:
    """Declare other dtypes for inputs.

    Raises:
        ConfigError: NumPy does not know one.
    """
    for value in model.graph.input:
        if value.name in dtypes:
            try:
                dtype = np.dtype(dtypes[value.name])
            except TypeError:
                raise ConfigError(
                    f"from_onnx: dtype of {value.name} is {dtypes[value.name]!r}",
                    "give one such as float32 or int64",
                ) from None
            value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)


def set_open_dims(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[int, ...]]:
    """Declare the shapes that have open dimensions; return those of numbers only."""
    fixed = {}
    for value in model.graph.input:
        dims = shapes.get(value.name)
        if dims is None:
            continue
        if all(isinstance(dim, (int, np.integer)) for dim in dims):
            fixed[value.name] = tuple(map(int, dims))
            continue
        declared = list(value.type.tensor_type.shape.dim)
        value.type.tensor_type.ClearField("shape")
        for axis, dim in enumerate(dims):
            known = declared[axis].dim_param if axis < len(declared) else ""
            is_open = not isinstance(dim, (int, np.integer))
            value.type.tensor_type.shape.dim.append(
                onnx.TensorShapeProto.Dimension(dim_param=known or f"{value.name}_{axis}")
                if is_open
                else onnx.TensorShapeProto.Dimension(dim_value=int(dim))
            )
    return fixed


def set_opset(model: onnx.ModelProto, version: int) -> None:
    """Make the model name another version of the standard operators."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = version


def store(model: onnx.ModelProto, directory: Path, *, all_weights: bool) -> Path:
    """Write `model` to `directory`, its weights to a file beside, and return the path.

    What stands beside becomes a parameter of the imported function.

    Args:
        model: changed: its weights are gone afterwards.
        directory: an empty one.
        all_weights: put all tensors of floats aside but scalars; else large ones only.
    """
    steering = {
        name for node in model.graph.node if node.op_type in _STEERING for name in node.input
    }
    for tensor in model.graph.initializer:
        if tensor.data_type not in _FLOATS or not tensor.dims or tensor.name in steering:
            continue
        if not all_weights and tensor.ByteSize() <= _INLINE_BYTES:
            continue
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
        external_data_helper.set_external_data(tensor, location="weights.bin")
    path = directory / "model.onnx"
    onnx.save_model(model, str(path))
    return path
