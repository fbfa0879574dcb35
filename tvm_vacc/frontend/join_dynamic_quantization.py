"""Joins what ONNX Runtime's `quantize_dynamic` puts in the place of a MatMul to one operator.

It writes five nodes: DynamicQuantizeLinear, MatMulInteger, Cast, and two Mul for the scales. Their
names for one are com.microsoft's DynamicQuantizeMatMul, as ONNX Runtime itself joins them, and that
reaches the quantised operators.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import NodeProto, TensorProto, helper

from tvm_vacc.frontend.refuse_operators import subgraphs

_DOMAIN, _JOINED = "com.microsoft", "DynamicQuantizeMatMul"


def join_dynamic_quantization(model: onnx.ModelProto) -> None:
    """Rewrite `model` in place; what looks alike and is not stays as it is."""
    graph = _Graph(model.graph)
    replaced = {}
    for node in model.graph.node:
        if node.op_type == "MatMulInteger" and (found := graph.joined(node)) is not None:
            replaced[found.output[0]] = found
    if not replaced:
        return
    nodes = [replaced.get(node.output[0], node) for node in model.graph.node if node.output]
    del model.graph.node[:]
    model.graph.node.extend(_needed(nodes, model.graph))
    if all(entry.domain != _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers = _readers(graph.node)
        self._returned = {output.name for output in graph.output}
        self._dims = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        self._nodes = graph.node

    def joined(self, product: NodeProto) -> NodeProto | None:
        """Return the one node for a MatMulInteger and its neighbours, which makes their result."""
        codes_of_x, weight, zero_of_x, *zero = [*product.input, ""][:4]
        quantize = self._makers.get(codes_of_x)
        if quantize is None or quantize.op_type != "DynamicQuantizeLinear":
            return None
        codes, scale_of_x, zero_point = quantize.output
        cast = self._only_reader(product)
        if cast is None or not _is_cast_to_float(cast):
            return None
        scaled = self._only_reader(cast)
        if scaled is None or scaled.op_type != "Mul" or self._dims.get(weight) != 2:
            return None
        [factor] = [name for name in scaled.input if name != cast.output[0]] or [""]
        scales = self._makers.get(factor)
        if scales is None or scales.op_type != "Mul" or scale_of_x not in scales.input:
            return None
        scale = next((name for name in scales.input if name != scale_of_x), "")
        stand_in_the_file = {scale, *filter(None, zero)} <= self._dims.keys()
        if (codes, zero_point) != (codes_of_x, zero_of_x) or not stand_in_the_file:
            return None
        inputs = [quantize.input[0], weight, scale, *filter(None, zero)]
        return helper.make_node(
            _JOINED, inputs, [scaled.output[0]], name=product.name, domain=_DOMAIN
        )

    def _only_reader(self, node: NodeProto) -> NodeProto | None:
        """Return the node that reads what `node` makes, where nothing else does."""
        [name] = node.output
        if self._readers[name] != 1 or name in self._returned:
            return None
        return next((reader for reader in self._nodes if name in reader.input), None)


def _readers(nodes: list[NodeProto]) -> Counter[str]:
    """Count the readers of each name, subgraphs included."""
    counts: Counter[str] = Counter()
    for node in nodes:
        counts.update(node.input)
        for subgraph in subgraphs(node):
            counts.update(_readers(list(subgraph.node)))
            counts.update(output.name for output in subgraph.output)
    return counts


def _is_cast_to_float(node: NodeProto) -> bool:
    to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
    return bool(node.op_type == "Cast" and to == TensorProto.FLOAT)


def _needed(nodes: list[NodeProto], graph: onnx.GraphProto) -> list[NodeProto]:
    """Return the nodes that something reads, or that make an output."""
    returned = {output.name for output in graph.output}
    while True:
        readers = _readers(nodes)
        kept = [node for node in nodes if any(readers[n] or n in returned for n in node.output)]
        if len(kept) == len(nodes):
            return kept
        nodes = kept
