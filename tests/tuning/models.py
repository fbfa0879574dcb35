"""A small model of stock operators and a linear of ours, for tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolution(path: Path, *, size: int = 14, batch: int | str = 1) -> Path:
    """A convolution with bias and ReLU, a pooling, a linear and a softmax."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((16, 8, 3, 3), np.float32) / 8,
        "b": rng.standard_normal(16, np.float32),
        "v": rng.standard_normal((16, 10), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=-1),
    ]
    return _saved(path, nodes, {"x": [batch, 8, size, size], "y": [batch, 10]}, weights)


def pooling(path: Path) -> Path:
    """A pooling of a batch that is left open: nothing of it can be tuned."""
    return _saved(
        path,
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        {"x": ["batch", 8, 4, 4], "y": ["batch", 8, 1, 1]},
        {},
    )


def linears(path: Path, *, batch: int | str = "batch", hidden: int = 320) -> Path:
    """Two linears alike, each with ReLU, and one of another shape."""
    rng = np.random.default_rng(0)
    shapes = {"a": (hidden, hidden), "b": (hidden, hidden), "c": (hidden, 65)}
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    nodes, before = [], "x"
    for name in weights:
        nodes.append(helper.make_node("MatMul", [before, name], [f"m{name}"]))
        before = "y" if name == "c" else f"r{name}"
        nodes.append(helper.make_node("Relu", [f"m{name}"], [before]))
    return _saved(path, nodes, {"x": [batch, hidden], "y": [batch, 65]}, weights)


def _saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    ends: dict[str, list[int | str]],
    weights: dict[str, np.ndarray],
) -> Path:
    """Write the model of `nodes`, from ``x`` to ``y``."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in ends.items()
    ]
    graph = helper.make_graph(
        nodes,
        path.stem,
        values[:1],
        values[1:],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path
