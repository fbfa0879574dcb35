"""Where an ONNX file's external initialisers lie, checked before anything trusts it."""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_tensor

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.onnx_narrow_types import NARROW
from tvm_vacc.frontend.onnx_quantized import quantized_operands
from tvm_vacc.frontend.packed_codes import SIGNED_NIBBLES
from tvm_vacc.frontend.tensor_ref import TensorRef

_WEIGHT_TYPES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
}


def external_tensors(model: onnx.ModelProto, path: Path) -> dict[str, TensorRef]:
    """Return the external initialisers of `model`, which was read from `path`, by name.

    Scalars and integers steer shapes and axes, zero points what is computed: those are read into
    `model` and not returned.

    Raises:
        OnnxError: a location is absolute or leaves the directory of `path`, a file is missing, or
            a tensor reaches beyond its file's end.
    """
    refs = {}
    operands = quantized_operands(model.graph)
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        ref = _checked_ref(tensor, path)
        has_values = tensor.data_type in _WEIGHT_TYPES and bool(tensor.dims)
        is_weight = has_values and tensor.name not in operands.zero_points
        if is_weight or tensor.name in operands.weights:
            refs[tensor.name] = ref
        else:
            load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = TensorProto.DEFAULT
    return refs


def _checked_ref(tensor: TensorProto, path: Path) -> TensorRef:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = Path(entries.get("location", ""))
    where = f"{path}: tensor {tensor.name}"
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise OnnxError(
            f"{where}: external data at {str(location)!r} lies outside the model's directory",
            "keep the data files beside the .onnx file",
        )
    file = path.parent / location
    if not file.is_file():
        raise OnnxError(f"{where}: {file} is missing", "copy the data files with the .onnx file")
    bits = NARROW[tensor.data_type][1] if tensor.data_type in NARROW else 8 * _itemsize(tensor)
    nbytes = -(-prod(tensor.dims) * bits // 8)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", nbytes))
    except ValueError as error:
        raise OnnxError(f"{where}: {error}", "export the model again") from error
    size = file.stat().st_size
    if offset < 0 or min(tensor.dims, default=0) < 0 or length != nbytes or offset + nbytes > size:
        raise OnnxError(
            f"{where}: {nbytes} bytes at offset {offset} (length {length}) do not fit {file}, "
            f"which has {size}",
            "the data file is truncated or belongs to another model: copy or export it again",
        )
    is_narrow = tensor.data_type == TensorProto.INT4
    dtype = "int8" if is_narrow else _WEIGHT_TYPES.get(tensor.data_type, "")
    packing = SIGNED_NIBBLES if is_narrow else None
    return TensorRef(tensor.name, file, offset, tuple(tensor.dims), dtype, packing)


def _itemsize(tensor: TensorProto) -> int:
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
