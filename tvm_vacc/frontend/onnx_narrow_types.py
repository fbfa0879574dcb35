"""ONNX's types of 2 and 4 bits, which TVM keeps a byte each, and types that it has no tensors of.

Such a type may stand in the middle of a graph and in initialisers; a graph that takes or returns
tensors of it cannot be compiled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tvm_vacc.errors import OnnxError

NARROW = {
    TensorProto.INT2: ("int8", 2),
    TensorProto.UINT2: ("uint8", 2),
    TensorProto.INT4: ("int8", 4),
    TensorProto.UINT4: ("uint8", 4),
}
"""What keeps a code, and its bits."""

_NO_TENSORS = {
    *NARROW,
    TensorProto.FLOAT4E2M1,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
    TensorProto.FLOAT8E8M0,
}

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def widened(array: np.ndarray) -> np.ndarray:
    """Return codes of 2 and 4 bits a byte each, other arrays as they are."""
    name = array.dtype.name
    if name in ("int2", "int4"):
        return array.astype(np.int8)
    return array.astype(np.uint8) if name in ("uint2", "uint4") else array


CODE_BITS = "tvm_vacc.code_bits"
"""Attribute that `note_quantized_types` gives a DequantizeLinear of codes of 2 or 4 bits."""


def note_quantized_types(graph: onnx.GraphProto) -> None:
    """Write down what types TVM's tensors will not tell.

    Each QuantizeLinear gets the type of its zero point, where only that says what it makes, and
    each DequantizeLinear of codes of 2 or 4 bits how many they are.
    """
    types = _types(graph)
    for node in graph.node:
        kind = _kind(node)
        if kind == "DequantizeLinear" and types.get(node.input[0]) in NARROW:
            bits = NARROW[types[node.input[0]]][1]
            node.attribute.append(onnx.helper.make_attribute(CODE_BITS, bits))
        if kind != "QuantizeLinear" or len(node.input) < 3:
            continue
        told = any(attribute.name == "output_dtype" for attribute in node.attribute)
        if not told and (type_ := types.get(node.input[2])) is not None:
            node.attribute.append(onnx.helper.make_attribute("output_dtype", type_))


def refuse_narrow_tensors(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse to quantise to types that TVM has no tensors of, or to dequantise them.

    Codes of 2 and 4 bits may stand inside a graph; float8, whose zeros and smallest numbers TVM
    reads wrongly, and float4 may not.

    Raises:
        OnnxError: names the first such tensor and the nodes that quantise or dequantise it.
    """
    held = [(tensor.name, tensor.data_type) for tensor in graph.initializer]
    known = [(value.name, value.type.tensor_type.elem_type) for value in graph.value_info]
    inside = [(name, type_) for name, type_ in (*held, *known) if type_ not in NARROW]
    outside = [
        (value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.output)
    ]
    for name, type_ in (*outside, *inside):
        if type_ not in _NO_TENSORS:
            continue
        nodes = [
            f"{node.op_type} ({node.name or ', '.join(node.output)})"
            for node in graph.node
            if _kind(node) in _QUANTIZERS and name in (*node.input, *node.output)
        ]
        if nodes:
            spelt = TensorProto.DataType.Name(type_).lower()
            raise OnnxError(
                f"{path}: {name}, a tensor of node {', '.join(nodes)}, is {spelt}, which TVM has "
                "no tensors of",
                "quantise to 8 bits, or keep 4-bit tensors inside the graph",
            )


def _kind(node: onnx.NodeProto) -> str:
    """Return what a node is, whether its domain is tagged or not."""
    return node.op_type.rpartition("::")[2]


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                types[node.output[0]] = attribute.t.data_type
    return types
