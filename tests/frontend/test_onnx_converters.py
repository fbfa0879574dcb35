from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.onnx_case import run_case
from tests.frontend.onnx_files import assert_equals_onnx_runtime, value, write
from tests.relay_passes.running import run_main
from tvm_vacc.frontend.import_onnx import import_onnx


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotary", [0, 8])
@pytest.mark.parametrize("flat", [True, False])
def test_rotary_embedding(tmp_path: Path, interleaved: int, rotary: int, flat: bool) -> None:
    half = (rotary or 16) // 2
    shape: list[Any] = ["b", "s", 3 * 16] if flat else ["b", 3, "s", 16]
    attributes = {"num_heads": 3} if flat else {}
    path = write(
        tmp_path / "rope.onnx",
        [
            helper.make_node(
                "RotaryEmbedding",
                ["x", "cos", "sin", "positions"],
                ["y"],
                interleaved=interleaved,
                rotary_embedding_dim=rotary,
                **attributes,
            )
        ],
        [
            value("x", shape),
            value("cos", [50, half]),
            value("sin", [50, half]),
            value("positions", ["b", "s"], TensorProto.INT64),
        ],
        [value("y", shape)],
    )
    rng = np.random.default_rng(0)
    cos, sin = rng.standard_normal((2, 50, half), dtype=np.float32)
    x = rng.standard_normal((2, 5, 48) if flat else (2, 3, 5, 16), dtype=np.float32)
    positions = rng.integers(0, 50, (2, 5))
    inputs = {"x": x, "cos": cos, "sin": sin, "positions": positions}
    assert_equals_onnx_runtime(path, inputs, atol=1e-5)


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_of_opset_23(tmp_path: Path, mask: str, causal: int) -> None:
    past = value("past_k", ["b", 2, "past", 16]), value("past_v", ["b", 2, "past", 16])
    queries, keys = value("q", ["b", 4, "s", 16]), value("k", ["b", 2, "s", 16])
    masks = {
        "none": [],
        "bool": [value("mask", ["s", "past+s"], TensorProto.BOOL)],
        "float": [value("mask", ["s", "past+s"])],
    }[mask]
    names = ["q", "k", "v", "mask" if masks else "", "past_k", "past_v"]
    path = write(
        tmp_path / "attention.onnx",
        [helper.make_node("Attention", names, ["y", "pk", "pv"], is_causal=causal, scale=0.3)],
        [queries, keys, value("v", ["b", 2, "s", 16]), *masks, *past],
        [
            value("y", ["b", 4, "s", 16]),
            value("pk", ["b", 2, "past+s", 16]),
            value("pv", ["b", 2, "past+s", 16]),
        ],
    )
    rng = np.random.default_rng(0)
    shapes = {"q": (4, 3), "k": (2, 3), "v": (2, 3), "past_k": (2, 5), "past_v": (2, 5)}
    inputs = {
        name: rng.standard_normal((2, heads, length, 16), dtype=np.float32)
        for name, (heads, length) in shapes.items()
    }
    if masks:
        visible = rng.random((3, 8)) < 0.7
        visible[:, 0] = True
        inputs["mask"] = visible if mask == "bool" else np.where(visible, 0, -7).astype(np.float32)
    model = import_onnx(path)
    want = onnx.reference.ReferenceEvaluator(str(path)).run(None, inputs)
    for got, expected in zip(run_main(model.module, inputs), want, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_swish_is_silu(tmp_path: Path) -> None:
    for alpha in (1.0, 1.702):
        path = write(
            tmp_path / "swish.onnx",
            [helper.make_node("Swish", ["x"], ["y"], alpha=alpha)],
            [value("x", ["n"])],
            [value("y", ["n"])],
            opset=24,
        )
        x = np.linspace(-5, 5, 11, dtype=np.float32)
        got = run_main(import_onnx(path).module, {"x": x})[0]
        np.testing.assert_allclose(got, x / (1 + np.exp(-alpha * x)), atol=1e-6)


def test_shape_arithmetic_and_open_slices(tmp_path: Path) -> None:
    """A scalar dimension reshaped to [1], Expand by a constant, slices to the end."""
    path = write(
        tmp_path / "shapes.onnx",
        [
            helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
            helper.make_node("Squeeze", ["n"], ["n0"]),
            helper.make_node("Reshape", ["n0", "one"], ["n1"]),
            helper.make_node("Concat", ["n1", "minus"], ["target"], axis=0),
            helper.make_node("Reshape", ["x", "target"], ["r"]),
            helper.make_node("Slice", ["r", "two", "end", "one"], ["s"]),
            helper.make_node("Slice", ["s", "zero", "end", "zero"], ["t"]),
            helper.make_node("Unsqueeze", ["t", "zero"], ["u"]),
            helper.make_node("Expand", ["u", "wide"], ["y"]),
        ],
        [value("x", ["n", 2, 3])],
        [value("y", [4, "n", 4])],
        {
            "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
            "minus": np.array([-1]), "end": np.array([2**63 - 1]), "wide": np.array([4, 1, 1]),
        },
    )  # fmt: skip
    x = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    assert_equals_onnx_runtime(path, {"x": x}, atol=0)


def test_slice_of_the_last_seq_as_positions_are_cut_from_a_mask(tmp_path: Path) -> None:
    path = write(
        tmp_path / "slice.onnx",
        [
            helper.make_node("Shape", ["ids"], ["size"], start=0, end=1),
            helper.make_node("Squeeze", ["size"], ["scalar"]),
            helper.make_node("Neg", ["scalar"], ["negative"]),
            helper.make_node("Reshape", ["negative", "flat"], ["begin"]),
            helper.make_node("Slice", ["x", "begin", "end", "axis"], ["tail"]),
            helper.make_node("Add", ["tail", "ids"], ["y"]),
        ],
        [value("x", ["past+seq"]), value("ids", ["seq"]), value("past", ["past"])],
        [value("y", ["seq"])],
        {"end": np.array([2**63 - 1]), "axis": np.array([0]), "flat": np.array([-1])},
    )
    x, ids = np.arange(8, dtype=np.float32), np.ones(3, np.float32)
    inputs = {"x": x, "ids": ids, "past": np.zeros(5, np.float32)}
    assert_equals_onnx_runtime(path, inputs, atol=0)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(("shape", "antialias"), [((6,), 0), ((5, 7), 0), ((5, 7), 1)])
def test_resize_of_one_and_two_dimensions(
    shape: tuple[int, ...], antialias: int, mode: str
) -> None:
    """What reads where data says looks like a product of matrix and vector to TVM's schedules."""
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode=mode, antialias=antialias)
    scales = numpy_helper.from_array(np.full(len(shape), 0.7, np.float32), "scales")
    outputs = [value("y", [None] * len(shape))]
    graph = helper.make_graph([node], "g", [value("x", list(shape))], outputs, [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    wanted = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    run_case(model, [([x], wanted)], rtol=1e-4, atol=1e-5)
