"""Which initialisers of an ONNX graph are quantised matrices of linears, and how their codes stand.

Such a matrix and its scales become parameters that are streamed like any weight; zero points are
read, since what a kernel computes depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from tvm_vacc.frontend.packed_codes import SIGNED_NIBBLES, Packing
from tvm_vacc.frontend.tensor_ref import TensorRef

MATMUL_NBITS = "MatMulNBits"

_OPERANDS = {
    "DequantizeLinear": (0, 1, 2),
    "QLinearMatMul": (3, 4, 5),
    "DynamicQuantizeMatMul": (1, 2, 3),
    MATMUL_NBITS: (1, 2, 3),
    "QGemm": (3, 4, 5),
}
"""Where operators take codes, scales and zero points, the last ones optional."""

_MATRICES = {
    ("DequantizeLinear", TensorProto.INT8): 2,
    ("DequantizeLinear", TensorProto.UINT8): 2,
    ("DequantizeLinear", TensorProto.INT4): 2,
    ("QLinearMatMul", TensorProto.INT8): 2,
    ("QLinearMatMul", TensorProto.UINT8): 2,
    ("DynamicQuantizeMatMul", TensorProto.INT8): 2,
    ("DynamicQuantizeMatMul", TensorProto.UINT8): 2,
    ("QGemm", TensorProto.INT8): 2,
    ("QGemm", TensorProto.UINT8): 2,
    (MATMUL_NBITS, TensorProto.UINT8): 3,
}
"""Dimensions of a matrix of codes, by operator and type."""


@dataclass(frozen=True)
class QuantizedOperands:
    """Names of initialisers.

    Attributes:
        weights: matrices of codes and their scales.
        zero_points: of anything.
    """

    weights: frozenset[str]
    zero_points: frozenset[str]


def quantized_operands(graph: onnx.GraphProto) -> QuantizedOperands:
    """Return what stands round the linears of a quantised model."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights, zero_points = set(), set()
    for kind, node in _nodes(graph):
        codes, scale, zero_point = (
            node.input[index] if index < len(node.input) else "" for index in _OPERANDS[kind]
        )
        zero_points.add(zero_point)
        matrix = tensors.get(codes)
        if matrix is not None and scale in tensors and _is_matrix(kind, matrix):
            weights |= {codes, scale}
    return QuantizedOperands(frozenset(weights), frozenset(zero_points))


def _is_matrix(kind: str, codes: onnx.TensorProto) -> bool:
    if _MATRICES.get((kind, codes.data_type)) != len(codes.dims) or not min(codes.dims):
        return False
    is_narrow = codes.data_type == TensorProto.INT4
    return not is_narrow or SIGNED_NIBBLES.fills(tuple(codes.dims))


def with_codes_unpacked(
    graph: onnx.GraphProto, refs: Mapping[str, TensorRef]
) -> dict[str, TensorRef]:
    """Return `refs`, the weights of each symmetric MatMulNBits of 4 bits as what they stand for.

    Its codes ``[out, blocks, bytes]`` become ``[out, in]`` int8, and its scales ``[out, blocks]``.
    """
    unpacked = dict(refs)
    for kind, node in _nodes(graph):
        if kind != MATMUL_NBITS or any(node.input[3:5]):
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        in_features, out_features = attributes["K"], attributes["N"]
        codes, scales = (refs.get(name) for name in node.input[1:3])
        whole = in_features % attributes["block_size"] == 0
        if codes is None or scales is None or attributes.get("bits", 4) != 4 or not whole:
            continue
        unpacked[codes.name] = replace(
            codes,
            shape=(out_features, in_features),
            dtype="int8",
            packing=Packing(bits=4, transposed=False),
        )
        blocks = in_features // attributes["block_size"]
        unpacked[scales.name] = replace(scales, shape=(out_features, blocks))
    return unpacked


def _nodes(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Yield the nodes that take codes, and what they are, whether their domain is tagged or not."""
    for node in graph.node:
        kind = node.op_type.rpartition("::")[2]
        if kind in _OPERANDS:
            yield kind, node
