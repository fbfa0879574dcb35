"""Casts from and to ONNX's types of 8 bits and less that TVM has no tensors of.

Where only casts touch such an input or output, its values travel as a byte each: whole numbers of 2
and 4 bits as int8 or uint8, floats as the codes they are stored by.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

NARROW_CAST = "tvm_vacc::Cast"
"""Operator type that stands for ``Cast`` and ``CastLike`` of such tensors; attribute `from`."""

_CASTS = ("Cast", "CastLike")

BYTES = {
    TensorProto.INT2: TensorProto.INT8,
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT2: TensorProto.UINT8,
    TensorProto.UINT4: TensorProto.UINT8,
    TensorProto.FLOAT4E2M1: TensorProto.UINT8,
    TensorProto.FLOAT8E4M3FN: TensorProto.UINT8,
    TensorProto.FLOAT8E4M3FNUZ: TensorProto.UINT8,
    TensorProto.FLOAT8E5M2: TensorProto.UINT8,
    TensorProto.FLOAT8E5M2FNUZ: TensorProto.UINT8,
}
"""What holds a value of each type."""


def hold_in_bytes(graph: onnx.GraphProto) -> None:
    """Give narrow inputs and outputs of `graph` types of a byte, where only casts touch them."""
    outer = {value.name: value for value in (*graph.input, *graph.output)}
    types = {name: value.type.tensor_type.elem_type for name, value in outer.items()}
    touched = {
        name
        for node in graph.node
        if node.op_type not in _CASTS or node.domain
        for name in (*node.input, *node.output)
    }
    narrow = {name for name, type_ in types.items() if type_ in BYTES and name not in touched}
    for node in graph.node:
        if node.op_type not in _CASTS or node.domain or narrow.isdisjoint(_ends(node)):
            continue
        if node.op_type == "CastLike":
            if node.input[1] not in types:
                continue
            node.attribute.append(helper.make_attribute("to", types[node.input[1]]))
            del node.input[1]
        if node.input[0] in types:
            node.attribute.append(helper.make_attribute("from", types[node.input[0]]))
        node.op_type = NARROW_CAST
    for name in narrow:
        outer[name].type.tensor_type.elem_type = BYTES[types[name]]


def _ends(node: onnx.NodeProto) -> tuple[str, ...]:
    return (*node.input, *node.output)
