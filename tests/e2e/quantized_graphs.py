"""Small ONNX graphs with quantised linears, as artefacts, and what ONNX Runtime answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

import tvm_vacc
from tvm_vacc.runtime.graph import Graph

IN, HIDDEN, OUT = 97, 65, 33
"""Odd numbers: no whole block, step or vector."""


def save(
    path: Path,
    nodes: list[NodeProto],
    weights: dict[str, np.ndarray],
    sizes: tuple[int, int],
    external: bool = False,
) -> Path:
    """Write a graph from ``x [batch, in]`` to ``y [batch, out]``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", sizes[1]])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = {"save_as_external_data": True, "location": "model.data", "size_threshold": 0}
    onnx.save(model, path, **(options if external else {}))
    return path


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    """Return ONNX Runtime's, without the optimisations that round activations to 8 bits."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0]


def compiled(path: Path) -> Graph:
    graph = tvm_vacc.load(tvm_vacc.compile(path, output=path.parent / "artefact"))
    assert isinstance(graph, Graph)
    return graph


def storage(graph: Graph) -> list[tuple[str, str, int]]:
    """Return scheme, quantiser and group of all weights but vectors."""
    return [
        (stored.stored_as, stored.quantizer, stored.group_size)
        for stored in graph.manifest.storage
        if stored.kind != "other"
    ]
