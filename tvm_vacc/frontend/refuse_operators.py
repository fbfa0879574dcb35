"""Refuses ONNX operators that cannot be compiled, before any work is done."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx

from tvm_vacc.errors import OnnxError


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the bodies of `node`: branches and loops."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def refuse_unsupported(graph: onnx.GraphProto, supported: Collection[str], path: Path) -> None:
    """Refuse a graph with operators that have no converter.

    Args:
        graph: its subgraphs are looked at too.
        supported: operator types, those of other domains with their domain before them.
        path: of the file, for the message.

    Raises:
        OnnxError: names all of them at once, and the nodes.
    """
    missing: dict[str, list[str]] = {}

    def visit(nodes: onnx.GraphProto) -> None:
        for node in nodes.node:
            if node.op_type not in supported:
                label = node.name or f"output {', '.join(node.output)}"
                missing.setdefault(node.op_type, []).append(label)
            for subgraph in subgraphs(node):
                visit(subgraph)

    visit(graph)
    if missing:
        listed = "; ".join(f"{op} (nodes {', '.join(names)})" for op, names in missing.items())
        raise OnnxError(
            f"{path}: operators that cannot be compiled: {listed}",
            "export with standard operators of opset 23 or older",
        )
