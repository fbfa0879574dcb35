"""Tells a Dropout that drops: what is compiled is for inference, where none may."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import numpy_helper

Constants = Mapping[str, onnx.TensorProto]
"""Tensors of a graph by name."""


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the initialisers of `graph`, and what its nodes Constant make."""
    nodes = [node for node in graph.node if node.op_type == "Constant"]
    made = {
        node.output[0]: attribute.t
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def may_drop(node: onnx.NodeProto, constants: Constants, directory: Path) -> bool:
    """Whether `node` is a Dropout in training mode, or may be when the model runs.

    Since opset 12 its inputs are data, ratio (0.5 if left out) and training_mode (false).

    Args:
        node: of any operator.
        constants: what its operands may be.
        directory: where the files of external data are.
    """
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False

    def is_off(name: str) -> bool:
        tensor = constants.get(name)
        return tensor is not None and not numpy_helper.to_array(tensor, str(directory)).any()

    return not is_off(node.input[2]) and not is_off(node.input[1])
