"""ONNX models that are quantised already, as artefacts, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

import tvm_vacc
from tvm_vacc.runtime.graph import Graph

IN, HIDDEN, OUT = 97, 65, 33
"""Odd numbers: no whole block, step or vector."""


class Samples(CalibrationDataReader):
    """What quantize_static takes the ranges of activations from."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"x": rng.standard_normal((16, IN), dtype=np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


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


def notes(graph: Graph) -> str:
    return next(r.note for r in graph.manifest.passes if r.name == "fuse_dequantize")


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


def weight_only(codes: str, scale: str, *zero_point: str, **attributes: int) -> list[NodeProto]:
    return [
        helper.make_node("DequantizeLinear", [codes, scale, *zero_point], ["w"], **attributes),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]


@pytest.mark.parametrize(
    ("scales", "external"),
    [("channel", False), ("tensor", False), ("tensor", True), ("zeros", True)],
)
def test_weights_alone_in_8_bits(scales: str, external: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "codes": rng.integers(-128, 128, (IN, OUT)).astype(np.int8),
        "scale": rng.uniform(0.01, 0.1, () if scales == "tensor" else OUT).astype(np.float32),
    }
    operands = ["codes", "scale"]
    if scales == "zeros":
        weights["zero"] = np.zeros(OUT, np.int8)
        operands.append("zero")
    path = save(tmp_path / "m.onnx", weight_only(*operands, axis=1), weights, (IN, OUT), external)
    graph = compiled(path)
    assert storage(graph) == [("w8a16", "stored", 0)]
    x = rng.standard_normal((5, IN), dtype=np.float32)
    want = answers(path, x)
    assert np.abs(graph.run({"x": x})["y"] - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parametrize(
    ("inputs", "block", "transposed", "external"),
    [(96, 32, False, False), (96, 32, False, True), (128, 128, True, False)],
)
def test_blocks_of_4_bits(
    inputs: int, block: int, transposed: bool, external: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    out = OUT if transposed else 40
    codes = rng.integers(-8, 8, (out, inputs)).astype(ml_dtypes.int4)
    scale = rng.uniform(0.01, 0.1, (out, inputs // block)).astype(np.float32)
    if transposed:
        nodes = weight_only("codes", "scale", axis=1, block_size=block)
        nodes[1] = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
        weights = {"codes": codes, "scale": scale}
    else:
        nodes = weight_only("codes", "scale", axis=0, block_size=block)
        weights = {"codes": codes.T.copy(), "scale": scale.T.copy()}
    path = save(tmp_path / "m.onnx", nodes, weights, (inputs, out), external)
    graph = compiled(path)
    assert storage(graph) == [("w4a16", "stored", block)]
    x = rng.standard_normal((5, inputs), dtype=np.float32)
    want = answers(path, x)
    # Scales are stored as fp16, as those of all types of 4 bits.
    assert np.abs(graph.run({"x": x})["y"] - want).max() < 1e-3 * np.abs(want).max()


@pytest.mark.parametrize(
    ("codes", "shape", "attributes", "note"),
    [
        ("uint8", (), {}, "codes (codes are uint8)"),
        ("int8", (), {"zero": 3}, "codes (it has zero points)"),
        ("int8", (96,), {"axis": 0}, "codes (scales along its inputs)"),
        ("int8", (3, OUT), {"axis": 0, "block_size": 32}, "codes (8 bits in blocks of 32"),
        ("int4", (3, OUT), {"axis": 0, "block_size": 32}, ""),  # half a byte at the end of a row
    ],
)
def test_what_does_not_fit_is_right_in_floats_and_said(
    codes: str, shape: tuple[int, ...], attributes: dict[str, int], note: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    dtype = ml_dtypes.int4 if codes == "int4" else np.dtype(codes)
    weights = {
        "codes": rng.integers(0, 8, (96, OUT)).astype(dtype),
        "scale": rng.uniform(0.01, 0.1, shape).astype(np.float32),
        "zero": np.array(attributes.pop("zero", 0), dtype),
    }
    operands = ["codes", "scale", *(["zero"] if not shape else [])]
    path = save(tmp_path / "m.onnx", weight_only(*operands, **attributes), weights, (96, OUT))
    graph = compiled(path)
    assert "stored" not in {stored.quantizer for stored in graph.manifest.storage}
    assert note in notes(graph)
    x = rng.standard_normal((5, 96), dtype=np.float32)
    want = answers(path, x)
    assert np.abs(graph.run({"x": x})["y"] - want).max() < 1e-6 * np.abs(want).max()


@pytest.mark.parametrize(
    ("inputs", "bits", "block", "zero_points", "kept"),
    [
        (128, 4, 32, "", ("w4a16", "stored", 32)),
        (128, 4, 64, "", ("w4a16", "stored", 64)),
        (256, 4, 128, "", ("w4a16", "stored", 128)),
        (128, 4, 16, "", None),
        (136, 4, 32, "", None),
        (128, 4, 32, "codes", None),
        (136, 4, 16, "codes", None),
        (128, 4, 32, "floats", None),
        (128, 8, 32, "", None),
        (136, 2, 32, "", None),
    ],
)
def test_matmul_nbits(
    inputs: int,
    bits: int,
    block: int,
    zero_points: str,
    kept: tuple[str, str, int] | None,
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    blocks = -(-inputs // block)
    weights = {
        "codes": rng.integers(0, 256, (OUT, blocks, block * bits // 8)).astype(np.uint8),
        "scale": rng.uniform(0.01, 0.1, OUT * blocks).astype(np.float32),
    }
    if zero_points == "codes":
        packed = rng.integers(0, 256, OUT * -(-blocks * bits // 8))
        weights["zero"] = packed.astype(np.uint8)
    elif zero_points:
        weights["zero"] = rng.uniform(0, 15, (OUT, blocks)).astype(np.float32)
    node = helper.make_node(
        "MatMulNBits",
        ["x", *weights],
        ["y"],
        domain="com.microsoft",
        K=inputs,
        N=OUT,
        bits=bits,
        block_size=block,
    )
    path = save(tmp_path / "m.onnx", [node], weights, (inputs, OUT), external=block == 64)
    graph = compiled(path)
    assert storage(graph) == ([] if kept is None else [kept])
    assert ("codes (" in notes(graph)) == (kept is None and zero_points != "floats")
    x = rng.standard_normal((5, inputs), dtype=np.float32)
    want = answers(path, x)
    bound = 1e-6 if kept is None else 1e-3
    assert np.abs(graph.run({"x": x})["y"] - want).max() < bound * np.abs(want).max()


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
