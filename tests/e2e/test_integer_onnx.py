"""ONNX models whose linears are products of integers, as artefacts, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.e2e.quantized_graphs import HIDDEN, IN, OUT, answers, compiled, save, storage


class Samples(CalibrationDataReader):
    """What quantize_static takes the ranges of activations from."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"x": rng.standard_normal((16, IN), dtype=np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def mlp(path: Path) -> Path:
    """Two linears with biases, and a ReLU between them."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h0"], name="first"),
        helper.make_node("Add", ["h0", "b0"], ["h1"], name="bias"),
        helper.make_node("Relu", ["h1"], ["h2"], name="relu"),
        helper.make_node("Gemm", ["h2", "w1", "b1"], ["y"], name="second", transB=1),
    ]
    shapes = {"w0": (IN, HIDDEN), "b0": (HIDDEN,), "w1": (OUT, HIDDEN), "b1": (OUT,)}
    weights = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    return save(path, nodes, weights, (IN, OUT))


@pytest.mark.parametrize(
    ("form", "activations", "per_channel"),
    [
        (QuantFormat.QDQ, QuantType.QUInt8, True),
        (QuantFormat.QDQ, QuantType.QInt8, False),
        (QuantFormat.QOperator, QuantType.QUInt8, False),
        (QuantFormat.QOperator, QuantType.QInt8, True),
    ],
)
def test_static_quantisation_runs_in_integers(
    form: QuantFormat, activations: QuantType, per_channel: bool, tmp_path: Path
) -> None:
    path = tmp_path / "quantised.onnx"
    quantize_static(
        mlp(tmp_path / "mlp.onnx"),
        path,
        Samples(),
        quant_format=form,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    graph = compiled(path)
    assert storage(graph) == 2 * [("w8a8", "stored", 0)]  # the last one is called the head
    matches = {report.name: report.matches for report in graph.manifest.passes}
    assert (matches["fuse_dequantize"], matches["fuse_linear"]) == (2, 0)
    linears = [stored for stored in graph.manifest.storage if stored.kind != "other"]
    assert sum(stored.weights for stored in linears) == IN * HIDDEN + HIDDEN * OUT
    rng = np.random.default_rng(2)
    [step] = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
        if tensor.name == "y_scale"
    ]
    for batch in (1, 7, 40):
        x = rng.standard_normal((batch, IN), dtype=np.float32)
        got, want = graph.run({"x": x})["y"], answers(path, x)
        assert np.abs(got - want).max() <= 1.01 * step
        assert (np.abs(got - want) > 0.5 * step).mean() < 0.01  # and nearly always the same code


@pytest.mark.parametrize("with_bias", [False, True])
def test_dynamic_quantize_matmul(with_bias: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "codes": rng.integers(-127, 128, (IN, OUT)).astype(np.int8),
        "scale": rng.uniform(0.01, 0.1, OUT).astype(np.float32),
    }
    inputs = ["x", "codes", "scale"]
    if with_bias:
        weights["zero"], weights["bias"] = np.zeros(OUT, np.int8), np.ones(OUT, np.float32)
        inputs += ["zero", "bias"]
    node = helper.make_node("DynamicQuantizeMatMul", inputs, ["y"], domain="com.microsoft")
    path = save(tmp_path / "m.onnx", [node], weights, (IN, OUT), external=with_bias)
    graph = compiled(path)
    assert storage(graph) == [("w8a8", "stored", 0)]
    for x in (rng.standard_normal((5, IN), dtype=np.float32), np.zeros((2, IN), np.float32)):
        want = answers(path, x)
        assert np.abs(graph.run({"x": x})["y"] - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantize_dynamic_runs_in_integers(per_channel: bool, tmp_path: Path) -> None:
    """Two linears on one input share their codes there."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal((inputs, outputs)).astype(np.float32) / inputs**0.5
        for name, inputs, outputs in (("w1", IN, HIDDEN), ("w2", IN, HIDDEN), ("w3", HIDDEN, OUT))
    }
    weights["bias"] = rng.standard_normal(HIDDEN).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["b"]),
        helper.make_node("MatMul", ["x", "w2"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["y"]),
    ]
    floats = save(tmp_path / "floats.onnx", nodes, weights, (IN, OUT))
    path = tmp_path / "m.onnx"
    quantize_dynamic(floats, path, weight_type=QuantType.QInt8, per_channel=per_channel)
    assert "MatMulInteger" in {node.op_type for node in onnx.load(path).graph.node}
    graph = compiled(path)
    assert set(storage(graph)) == {("w8a8", "stored", 0)}
    x = rng.standard_normal((5, IN), dtype=np.float32)
    want = answers(path, x)
    assert np.abs(graph.run({"x": x})["y"] - want).max() <= 1e-2 * np.abs(want).max()
