"""ONNX models whose weights are codes already, as artefacts, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import NodeProto, helper

from tests.e2e.quantized_graphs import IN, OUT, answers, compiled, save, storage
from tvm_vacc.runtime.graph import Graph


def notes(graph: Graph) -> str:
    return next(r.note for r in graph.manifest.passes if r.name == "fuse_dequantize")


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


@pytest.mark.parametrize("zero_points", [False, True])
def test_matmul_nbits_of_reordered_inputs_stays_dequantised(
    zero_points: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "codes": rng.integers(0, 256, (OUT, 4, 16)).astype(np.uint8),
        "scale": rng.uniform(0.01, 0.1, OUT * 4).astype(np.float32),
        "order": rng.permutation(np.repeat(np.arange(4, dtype=np.int32), 32)),
    }
    if zero_points:
        weights["zero"] = rng.uniform(0, 15, (OUT, 4)).astype(np.float32)
    names = ["x", "codes", "scale", "zero" if zero_points else "", "order"]
    sizes = {"K": 128, "N": OUT, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", **sizes)
    path = save(tmp_path / "m.onnx", [node], weights, (128, OUT))
    graph = compiled(path)
    assert storage(graph) == []
    x = rng.standard_normal((5, 128), dtype=np.float32)
    want = answers(path, x)
    assert np.abs(graph.run({"x": x})["y"] - want).max() < 1e-6 * np.abs(want).max()
