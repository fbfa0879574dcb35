"""A plain ONNX model with quantised linears, against ONNX Runtime over dequantised weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tvm_vacc
from tvm_vacc.artifact.store import open_artifact
from tvm_vacc.errors import PassError
from tvm_vacc.runtime.graph import Graph

CONFIG = """\
name: mlp
frontend:
  checkpoint: mlp.onnx
  type: onnx
  quantize: {{type: {type}, group_size: 32}}
backend: {{type: tvm_vacc, dtype: fp32}}
workspace: {{path: .}}
"""


def mlp(path: Path, weights: dict[str, np.ndarray], external: bool = False) -> Path:
    """Two linears, the first one with a bias, and a ReLU between them."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h0"]),
        helper.make_node("Add", ["h0", "b0"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["h2"]),
        helper.make_node("Gemm", ["h2", "w1"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 96])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = {"save_as_external_data": True, "location": "mlp.data", "size_threshold": 0}
    onnx.save(model, path, **(options if external else {}))
    return path


def rounded(weight_OI: np.ndarray, four: bool) -> np.ndarray:
    """Return what codes and scales stand for, by the formulas of the schemes."""
    if not four:
        scale = np.abs(weight_OI).max(axis=1, keepdims=True) / 127
        return np.rint(weight_OI / scale) * scale
    groups = weight_OI.reshape(len(weight_OI), -1, 32)
    at = np.abs(groups).argmax(axis=2, keepdims=True)
    scale = (np.take_along_axis(groups, at, 2) / -8).astype(np.float16).astype(np.float32)
    return (np.clip(np.rint(groups / scale), -8, 7) * scale).reshape(weight_OI.shape)


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("type_", ["w8a16", "w8a8", "w4a16"])
def test_equals_onnx_runtime_over_the_dequantised_weights(
    type_: str, external: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.standard_normal((96, 64), dtype=np.float32),
        "b0": rng.standard_normal(64, dtype=np.float32),
        "w1": rng.standard_normal((5, 64), dtype=np.float32),
    }
    mlp(tmp_path / "mlp.onnx", weights, external)
    four = type_ == "w4a16"
    same = {"w0": rounded(weights["w0"].T, four).T.copy(), "w1": rounded(weights["w1"], four)}
    (tmp_path / "oracle").mkdir()
    oracle = onnxruntime.InferenceSession(mlp(tmp_path / "oracle" / "mlp.onnx", weights | same))
    (tmp_path / "c.yaml").write_text(CONFIG.format(type=type_))
    graph = tvm_vacc.load(tvm_vacc.compile(tmp_path / "c.yaml"))
    assert isinstance(graph, Graph)
    stored = {entry.kind: entry for entry in graph.manifest.storage}
    assert (stored["linear"].stored_as, stored["linear"].weights) == (type_, 96 * 64)
    assert (stored["head"].stored_as, stored["head"].weights) == (type_, 64 * 5)
    for batch in (1, 7):
        x = rng.standard_normal((batch, 96), dtype=np.float32)
        [want] = oracle.run(None, {"x": x})
        # Activations of 8 bits are half a step of 1/127 off at most, in both linears.
        bound = 0.05 if type_ == "w8a8" else 1e-4
        difference = np.abs(graph.run({"x": x})["y"] - want)
        assert difference.max() < bound * np.abs(want).max()
    assert open_artifact(graph.path, verify=True).manifest.quantization == type_


def test_a_graph_without_linears_is_refused(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "mlp.onnx")
    (tmp_path / "c.yaml").write_text(CONFIG.format(type="w8a16"))
    with pytest.raises(PassError, match="no linear with a stored weight; leave the key out"):
        tvm_vacc.compile(tmp_path / "c.yaml")
