"""Small ONNX models for these tests, and ONNX Runtime's answers to them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(20)


def image_model() -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, pooling, Gemm, Softmax: ``[1, 3, 9, 11]`` to ``[1, 5]``."""
    weights = {
        "conv.weight": RNG.normal(size=(7, 3, 3, 3)),
        "conv.bias": RNG.normal(size=7),
        "norm.scale": RNG.uniform(0.5, 1.5, size=7),
        "norm.bias": RNG.normal(size=7),
        "norm.mean": RNG.normal(size=7),
        "norm.var": RNG.uniform(0.5, 1.5, size=7),
        "fc.weight": RNG.normal(size=(5, 7)),
        "fc.bias": RNG.normal(size=5),
    }
    nodes = [
        helper.make_node(
            "Conv", ["image", "conv.weight", "conv.bias"], ["conv"], pads=[1, 1, 1, 1]
        ),
        helper.make_node(
            "BatchNormalization",
            ["conv", "norm.scale", "norm.bias", "norm.mean", "norm.var"],
            ["norm"],
        ),
        helper.make_node("Relu", ["norm"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
    ]
    return _model(nodes, {"image": [1, 3, 9, 11]}, {"scores": [1, 5]}, weights)


def mlp_model() -> onnx.ModelProto:
    """Two projections with a residual: ``[batch, 17]`` to ``[batch, 17]`` and ``[batch, 1]``."""
    weights = {
        "up.weight": RNG.normal(size=(17, 65)) / 4,
        "up.bias": RNG.normal(size=65),
        "down.weight": RNG.normal(size=(65, 17)) / 8,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "up.weight"], ["up"]),
        helper.make_node("Add", ["up", "up.bias"], ["biased"]),
        helper.make_node("Tanh", ["biased"], ["act"]),
        helper.make_node("MatMul", ["act", "down.weight"], ["down"]),
        helper.make_node("Add", ["x", "down"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["mean"], axes=[-1], keepdims=1),
    ]
    outputs = {"y": ["batch", 17], "mean": ["batch", 1]}
    return _model(nodes, {"x": ["batch", 17]}, outputs, weights)


def answers(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """Return ONNX Runtime's outputs."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    def values(shapes: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    initializers = [
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()
    ]
    graph = helper.make_graph(nodes, "model", values(inputs), values(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
