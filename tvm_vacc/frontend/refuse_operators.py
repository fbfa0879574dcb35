"""Refuses ONNX operators that cannot be compiled, before any work is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import onnx

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.refused_uses import Constants, Use, constants_of, refused_use


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of `node`: branches and loops."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def tagged_type(node: onnx.NodeProto) -> str:
    """Return the operator type of `node`, that of a foreign domain with its domain before it."""
    is_tagged = node.domain in ("", "ai.onnx") or "::" in node.op_type
    return str(node.op_type) if is_tagged else f"{node.domain}::{node.op_type}"


def _names_read(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that something in `graph`, its subgraphs too, reads."""
    read = {value.name for value in graph.output}
    for node in graph.node:
        read.update(node.input)
        for subgraph in subgraphs(node):
            read |= _names_read(subgraph)
    return read


def needed_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of `graph` that outputs depend on and that depend on inputs.

    The others need no converter: simplifying folds them or drops them.
    """
    fixed = {tensor.name for tensor in graph.initializer} | {""}
    nodes = []
    for node in graph.node:
        if fixed.issuperset(node.input) and not subgraphs(node) and node.input:
            fixed.update(node.output)
        else:
            nodes.append(node)
    read = {value.name for value in graph.output}
    needed = []
    for node in reversed(nodes):
        if subgraphs(node) or not read.isdisjoint(node.output):
            read.update(node.input)
            for subgraph in subgraphs(node):
                read |= _names_read(subgraph)
            needed.append(node)
    return needed[::-1]


def refuse_unsupported(
    graph: onnx.GraphProto,
    nodes: Iterable[onnx.NodeProto],
    supported: Collection[str],
    path: Path,
) -> None:
    """Refuse operators that have no converter, and uses that the one there is gets wrong.

    Args:
        graph: whose constants say how a node runs.
        nodes: those of `graph` that count; their subgraphs are looked at too.
        supported: operator types, those of other domains with their domain before them.
        path: of the file, for the message.

    Raises:
        OnnxError: names all of them at once, and the nodes.
    """
    missing: dict[str, list[str]] = {}
    read = _names_read(graph)

    def visit(nodes: Iterable[onnx.NodeProto], constants: Constants) -> None:
        for node in nodes:
            kind = tagged_type(node)
            refused = kind
            if kind in supported:
                refused = refused_use(kind, node, Use(constants, read, path.parent))
            if refused:
                label = node.name or f"output {', '.join(node.output)}"
                missing.setdefault(refused, []).append(label)
            for subgraph in subgraphs(node):
                visit(subgraph.node, {**constants, **constants_of(subgraph)})

    visit(nodes, constants_of(graph))
    if missing:
        listed = "; ".join(f"{op} (nodes {', '.join(names)})" for op, names in missing.items())
        raise OnnxError(
            f"{path}: operators that cannot be compiled: {listed}",
            "export for inference, with standard operators of opset 23 or older",
        )
