"""Writes small ONNX files and holds their import against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.relay_passes.running import run_main
from tvm_vacc.frontend.import_onnx import import_onnx


def value(name: str, shape: list[Any], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 23,
    external: bool = False,
) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(
        model, str(path), save_as_external_data=external, location="weights", size_threshold=0
    )
    return path


def assert_equals_onnx_runtime(path: Path, inputs: dict[str, np.ndarray], atol: float) -> None:
    model = import_onnx(path)
    values = inputs | {name: ref.read() for name, ref in model.weights.items()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for got, want in zip(run_main(model.module, values), session.run(None, inputs), strict=True):
        np.testing.assert_allclose(got, want, atol=atol, rtol=0)
