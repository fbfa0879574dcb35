"""Where the matrices of an ONNX file's linears lie, when they stand in the .onnx file itself.

Protobuf keeps a tensor's values in one piece, so that piece of the file is a `TensorRef` like
external data: such a weight is quantised and packed as any other.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tvm_vacc.frontend.tensor_ref import TensorRef

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_PRODUCTS = ("MatMul", "Gemm")


def inline_matrices(model: onnx.ModelProto, path: Path) -> dict[str, TensorRef]:
    """Return the matrices that products of `model` take on the right, by name.

    Args:
        model: read from `path`; it may have been simplified since. A matrix that this has made
            is not in the file and not returned.
        path: the .onnx file.
    """
    right = {
        node.input[1]
        for node in model.graph.node
        if node.op_type in _PRODUCTS and not node.domain and len(node.input) > 1
    }
    wanted = [tensor for tensor in model.graph.initializer if _is_inline_matrix(tensor, right)]
    if not wanted:
        return {}
    refs = {}
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
        end = 0
        for tensor in wanted:
            array = np.ascontiguousarray(numpy_helper.to_array(tensor))
            values = array.tobytes()
            # They mostly stand in the order of the graph.
            offset = file.find(values, end)
            offset = file.find(values) if offset < 0 else offset
            if offset >= 0:
                shape, dtype = tuple(tensor.dims), array.dtype.name
                refs[tensor.name] = TensorRef(tensor.name, path, offset, shape, dtype)
                end = offset + len(values)
    return refs


def _is_inline_matrix(tensor: TensorProto, right: set[str]) -> bool:
    return (
        tensor.name in right
        and tensor.data_location != TensorProto.EXTERNAL
        and tensor.data_type in _FLOATS
        and len(tensor.dims) == 2
        and min(tensor.dims) > 0
    )
