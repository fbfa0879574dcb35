from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.frontend.onnx_files import assert_equals_onnx_runtime, value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import import_onnx


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
    assert list(model.weights) == (["w1", "b1", "w2"] if external else ["w1", "w2"])
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


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(
    ("constants", "drops"),
    [
        ({"ratio": 0.3, "mode": True}, True),
        ({"mode": True}, True),  # half of all, if not said
        ({"ratio": 0.3}, True),  # the mode is an input
        ({"ratio": 0.0, "mode": True}, False),
        ({"ratio": 0.3, "mode": False}, False),
    ],
)
def test_a_dropout_that_drops_is_refused(
    constants: dict[str, float], drops: bool, external: bool, tmp_path: Path
) -> None:
    ratio = "ratio" if "ratio" in constants else ""
    inputs = [value("x", [3])]
    if "mode" not in constants:
        inputs.append(value("mode", [], TensorProto.BOOL))
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Dropout", ["x", ratio, "mode"], ["y"], name="late")],
        inputs,
        [value("y", [3])],
        {
            name: np.array(number, bool if name == "mode" else np.float32)
            for name, number in constants.items()
        },
        external=external,
    )
    if not drops:
        import_onnx(path, simplify=True)
        return
    message = r"operators that cannot be compiled: Dropout in training mode \(nodes late\)"
    with pytest.raises(OnnxError, match=message):
        import_onnx(path, simplify=True)


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
