from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.relay_passes.running import run_main
from tvm_vacc.errors import OnnxError
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


def mlp(path: Path, external: bool) -> Path:
    rng = np.random.default_rng(0)
    return write(
        path,
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["y"]),
        ],
        [value("x", ["n", 8])],
        [value("y", ["n", 3])],
        {
            "w1": rng.standard_normal((16, 8), dtype=np.float32),
            "b1": rng.standard_normal(16, dtype=np.float32),
            "w2": rng.standard_normal((16, 3), dtype=np.float32),
        },
        external=external,
    )


@pytest.mark.parametrize("external", [True, False])
def test_mlp(tmp_path: Path, external: bool) -> None:
    path = mlp(tmp_path / "mlp.onnx", external)
    model = import_onnx(path)
    main = model.module["main"]
    assert (model.inputs, model.outputs) == (("x",), ("y",))
    assert list(model.weights) == (["w1", "b1", "w2"] if external else [])
    assert [param.name for param in main.params] == ["x", *model.weights]
    assert int(main.attrs["num_input"]) == 1
    x = np.random.default_rng(1).standard_normal((5, 8), dtype=np.float32)
    assert_equals_onnx_runtime(path, {"x": x}, atol=1e-5)


def test_convnet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(
        tmp_path / "conv.onnx",
        [
            helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["p"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ],
        [value("x", [2, 3, 8, 8])],
        [value("y", [2, 5])],
        {
            "k": rng.standard_normal((4, 3, 3, 3), dtype=np.float32),
            "w": rng.standard_normal((4, 5), dtype=np.float32),
        },
        external=True,
    )
    x = rng.standard_normal((2, 3, 8, 8), dtype=np.float32)
    assert_equals_onnx_runtime(path, {"x": x}, atol=1e-4)


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
    inputs = {
        name: rng.standard_normal((2, heads, length, 16), dtype=np.float32)
        for name, heads, length in (
            ("q", 4, 3), ("k", 2, 3), ("v", 2, 3), ("past_k", 2, 5), ("past_v", 2, 5),
        )  # fmt: skip
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


def test_mask_length_is_past_plus_seq(tmp_path: Path) -> None:
    path = write(
        tmp_path / "lengths.onnx",
        [
            helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
            helper.make_node("Identity", ["past_key_values.0.key"], ["y"]),
        ],
        [
            value("input_ids", ["b", "s"], TensorProto.INT64),
            value("attention_mask", ["b", "everything"], TensorProto.INT64),
            value("past_key_values.0.key", ["b", 2, "p", 4]),
        ],
        [value("m", ["b", "everything"]), value("y", ["b", 2, "p", 4])],
    )
    main = import_onnx(path).module["main"]
    assert str(main.params[1].ty.shape[1]) == "p + s"


def test_bfloat16_initialisers(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [3], [1.0, -2.5, 0.125])
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "f"], ["y"]),
        ],
        "graph", [value("x", ["n", 3])], [value("y", ["n", 3])], [weight],
    )  # fmt: skip
    path = tmp_path / "bf16.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), str(path))
    got = run_main(import_onnx(path).module, {"x": np.ones((2, 3), np.float32)})[0]
    np.testing.assert_array_equal(got, [[1.0, -2.5, 0.125]] * 2)


def test_unsupported_operators_are_reported_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "odd.onnx",
        [
            helper.make_node("STFT", ["x", "one"], ["a"], name="first"),
            helper.make_node("Attention", ["x"], ["c"], name="second", domain="other.domain"),
            helper.make_node("MelWeightMatrix", ["x"] * 5, ["y"], name="third"),
        ],
        [value("x", [1])],
        [value("y", [1])],
    )
    with pytest.raises(OnnxError) as caught:
        import_onnx(path)
    message = str(caught.value)
    for part in ("STFT", "first", "other.domain::Attention", "second", "MelWeightMatrix", "third"):
        assert part in message
    assert "\n" not in message


def damaged(path: Path, how: str) -> None:
    model = onnx.load(str(path), load_external_data=False)
    entries = {entry.key: entry for entry in model.graph.initializer[0].external_data}
    if how == "outside":
        entries["location"].value = "../weights"
    elif how == "absolute":
        entries["location"].value = str(path.parent / "weights")
    elif how == "beyond":
        entries["offset"].value = str(1 << 40)
    elif how == "negative":
        entries["offset"].value = "-4096"
    elif how == "no number":
        entries["offset"].value = "everywhere"
    elif how == "length":
        entries["length"].value = "4"
    elif how == "undefined input":
        model.graph.node[1].input[0] = "nothing"
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("outside", "outside the model's directory"),
        ("absolute", "outside the model's directory"),
        ("beyond", "do not fit"),
        ("negative", "do not fit"),
        ("no number", "everywhere"),
        ("length", "do not fit"),
        ("undefined input", "nothing"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, how: str, message: str) -> None:
    path = mlp(tmp_path / "mlp.onnx", external=True)
    damaged(path, how)
    with pytest.raises(OnnxError, match=message) as caught:
        import_onnx(path)
    assert "\n" not in str(caught.value)
    assert "mlp.onnx" in str(caught.value)


def test_missing_truncated_and_foreign_files(tmp_path: Path) -> None:
    path = mlp(tmp_path / "mlp.onnx", external=False)
    for contents in (path.read_bytes()[:-40], b"PK\x03\x04 not a model", b""):
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(contents)
        with pytest.raises(OnnxError, match=r"broken\.onnx"):
            import_onnx(broken)
    with pytest.raises(OnnxError, match="no such file"):
        import_onnx(tmp_path / "missing.onnx")
    external = mlp(tmp_path / "external.onnx", external=True)
    (tmp_path / "weights").unlink()
    with pytest.raises(OnnxError, match="missing"):
        import_onnx(external)
