"""Where the matrices of an ONNX file's linears lie, when they stand in the .onnx file itself.

Protobuf keeps a tensor's values in one piece, so that piece of the file is a `TensorRef` like
external data: such a weight is quantised and packed as any other.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tvm_vacc.frontend.onnx_quantized import quantized_operands
from tvm_vacc.frontend.packed_codes import SIGNED_NIBBLES
from tvm_vacc.frontend.tensor_ref import TensorRef

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_PRODUCTS = ("MatMul", "Gemm")


def inline_matrices(model: onnx.ModelProto, path: Path) -> dict[str, TensorRef]:
    """Return the matrices that products of `model` take on the right, as floats or as codes.

    The scales of such codes are among them.

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
    codes = quantized_operands(model.graph).weights
    wanted = [
        tensor
        for tensor in model.graph.initializer
        if _is_inline_matrix(tensor, right) or _is_inline_code(tensor, codes)
    ]
    if not wanted:
        return {}
    refs = {}
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
        end = 0
        for tensor in wanted:
            narrow = tensor.data_type == TensorProto.INT4
            array = np.ascontiguousarray(numpy_helper.to_array(tensor))
            values = tensor.raw_data if narrow else array.tobytes()
            # They mostly stand in the order of the graph.
            offset = file.find(values, end)
            offset = file.find(values) if offset < 0 else offset
            if offset >= 0:
                shape, dtype = tuple(tensor.dims), "int8" if narrow else array.dtype.name
                packing = SIGNED_NIBBLES if narrow else None
                refs[tensor.name] = TensorRef(tensor.name, path, offset, shape, dtype, packing)
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


def _is_inline_code(tensor: TensorProto, codes: Collection[str]) -> bool:
    if tensor.name not in codes or tensor.data_location == TensorProto.EXTERNAL:
        return False
    return bool(tensor.raw_data) or tensor.data_type != TensorProto.INT4
