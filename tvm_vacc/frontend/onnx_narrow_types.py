"""ONNX's types of 8 bits and less that TVM has no tensors of, or reads wrongly.

Their values travel as a byte each: whole numbers of 2 and 4 bits as int8 or uint8, floats as the
codes they are stored by. Casts, quantisation and what only moves values work on those; a graph that
computes with them otherwise cannot be compiled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tvm_vacc.errors import OnnxError

NARROW = {
    TensorProto.INT2: ("int8", 2),
    TensorProto.UINT2: ("uint8", 2),
    TensorProto.INT4: ("int8", 4),
    TensorProto.UINT4: ("uint8", 4),
}
"""What keeps a code of whole numbers, and its bits."""

NARROW_FLOATS = {
    TensorProto.FLOAT4E2M1,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
    TensorProto.FLOAT8E8M0,
}

BYTES = {
    TensorProto.INT2: TensorProto.INT8,
    TensorProto.INT4: TensorProto.INT8,
    TensorProto.UINT2: TensorProto.UINT8,
    TensorProto.UINT4: TensorProto.UINT8,
    **dict.fromkeys(NARROW_FLOATS, TensorProto.UINT8),
}
"""What holds a value of each type."""

NARROW_CAST = "tvm_vacc::Cast"
"""Operator type that stands for ``Cast`` and ``CastLike`` of such tensors; attribute `from`."""

CODE_TYPE = "tvm_vacc.code_type"
"""Attribute that a DequantizeLinear of such codes gets: their ONNX type."""

_CASTS = ("Cast", "CastLike")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_MOVES = (
    *("Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity"),
    *("Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators whose results hold values of their first input, and nothing else."""


def widened(array: np.ndarray) -> np.ndarray:
    """Return narrow values a byte each, other arrays as they are."""
    name = array.dtype.name
    if name in ("int2", "int4"):
        return array.astype(np.int8)
    if name in ("uint2", "uint4"):
        return array.astype(np.uint8)
    return array.view(np.uint8) if name.startswith(("float8", "float4")) else array


def hold_in_bytes(graph: onnx.GraphProto, path: Path) -> None:
    """Give the narrow values of `graph`, which was read from `path`, types of a byte, in place.

    The operators that read or make them are told what TVM's tensors will not tell: casts become
    `NARROW_CAST`, each QuantizeLinear gets the type of its zero point, where only that says what it
    makes, and each DequantizeLinear of narrow codes their type.

    Raises:
        OnnxError: quantised values meet an operator that computes with them, or an initialiser
            does; names the tensor and the nodes.
    """
    types = _types(graph)
    held = _held(graph, types)
    _refuse_others(graph, {name for name in types if types[name] in BYTES} - held, types, path)
    for node in graph.node:
        kind = _kind(node)
        if kind == "QuantizeLinear" and (type_ := types.get(node.output[0])) is not None:
            if not any(attribute.name == "output_dtype" for attribute in node.attribute):
                node.attribute.append(helper.make_attribute("output_dtype", type_))
        elif kind == "DequantizeLinear" and node.input[0] in held:
            node.attribute.append(helper.make_attribute(CODE_TYPE, types[node.input[0]]))
        elif kind in _CASTS and not held.isdisjoint((*node.input[:1], *node.output)):
            if kind == "CastLike":
                node.attribute.append(helper.make_attribute("to", types[node.output[0]]))
                del node.input[1]
            if node.input[0] in held:
                node.attribute.append(helper.make_attribute("from", types[node.input[0]]))
            node.op_type = NARROW_CAST
    for value in (*graph.input, *graph.output):
        if value.name in held:
            value.type.tensor_type.elem_type = BYTES[types[value.name]]


def _held(graph: onnx.GraphProto, types: dict[str, int]) -> set[str]:
    """Return the narrow values that nothing computes with: directly, or as what they are moved."""
    held = {name for name, type_ in types.items() if type_ in BYTES}
    size = -1
    while len(held) != size:
        size = len(held)
        for node in graph.node:
            narrow = [name for name in _ends(node) if types.get(name) in BYTES]
            works = _kind(node) in (*_CASTS, *_QUANTIZERS, *_MOVES, "Constant")
            if not works or not held.issuperset(narrow):
                held.difference_update(narrow)
    return held


def _refuse_others(
    graph: onnx.GraphProto, names: set[str], types: dict[str, int], path: Path
) -> None:
    stored = {tensor.name for tensor in graph.initializer}
    for name in sorted(names):
        nodes = [node for node in graph.node if name in _ends(node)]
        if name in stored or any(_kind(node) in _QUANTIZERS for node in nodes):
            listed = [f"{_kind(node)} ({node.name or ', '.join(node.output)})" for node in nodes]
            spelt = TensorProto.DataType.Name(types[name]).lower()
            raise OnnxError(
                f"{path}: {name}, a tensor of node {', '.join(listed)}, is {spelt}, which TVM "
                "cannot compute with",
                "dequantise it first, or quantise to 8 bits",
            )


def _kind(node: onnx.NodeProto) -> str:
    """Return what a node is, whether its domain is tagged or not."""
    return node.op_type.rpartition("::")[2]


def _ends(node: onnx.NodeProto) -> tuple[str, ...]:
    return (*node.input, *node.output)


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the element types that the graph declares, and those that follow from them."""
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for output in node.output:
            made = _made_type(node, types)
            if made:
                types.setdefault(output, made)
    return types


def _made_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    """Return the element type of the results of `node`; 0: not known."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    kind = _kind(node)
    if kind == "Constant" and "value" in attributes:
        return attributes["value"].t.data_type
    if kind == "Cast":
        return attributes["to"].i
    if kind in ("CastLike", "QuantizeLinear"):
        told = attributes["output_dtype"].i if "output_dtype" in attributes else 0
        like = node.input[1 if kind == "CastLike" else 2 :]
        return told or (types.get(like[0], 0) if like else 0)
    return types.get(node.input[0], 0) if kind in _MOVES else 0
