"""Types of 8 bits and less that TVM has no tensors of, beside ONNX's own cases of them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.frontend.onnx_files import value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import import_onnx


def with_initializer(path: Path, tensor: TensorProto) -> Path:
    model = onnx.load(path)
    model.graph.initializer.append(tensor)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_four_bits_inside_a_graph(kind: int, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
        ],
        [value("x", ["n"])],
        [value("y", ["n"])],
        {"scale": np.array(0.5, np.float32)},
    )
    with_initializer(path, helper.make_tensor("zero", kind, [], [2]))
    x = np.linspace(-9, 9, 41, dtype=np.float32)
    want = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_array_equal(run_main(import_onnx(path).module, {"x": x}), want)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2fnuz", "float4_e2m1fn"])
def test_stored_floats_are_moved_and_dequantised(dtype: str, tmp_path: Path) -> None:
    """By row, and the table is transposed on the way: its bytes are."""
    numbers = np.random.default_rng(0).standard_normal((5, 3)).astype(getattr(ml_dtypes, dtype))
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Transpose", ["table"], ["turned"]),
            helper.make_node("DequantizeLinear", ["turned", "scale"], ["rows"], axis=0),
            helper.make_node("Mul", ["rows", "x"], ["y"]),
        ],
        [value("x", [5])],
        [value("y", [3, 5])],
        {"scale": np.array([0.5, 2, 3], np.float32)},
    )
    with_initializer(path, onnx.numpy_helper.from_array(numbers, "table"))
    got = run_main(import_onnx(path).module, {"x": np.ones(5, np.float32)})[0]
    want = numbers.T.astype(np.float32) * np.array([[0.5], [2], [3]], np.float32)
    np.testing.assert_array_equal(got, want)


def test_to_compute_with_codes_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], "quantize"),
            helper.make_node("Relu", ["codes"], ["positive"], "relu"),
            helper.make_node("DequantizeLinear", ["positive", "scale"], ["y"]),
        ],
        [value("x", ["n"])],
        [value("y", ["n"])],
        {"scale": np.array(0.5, np.float32)},
    )
    with_initializer(path, helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0]))
    with pytest.raises(OnnxError, match=r"codes, a tensor of .*Relu \(relu\), is float8e4m3fn"):
        import_onnx(path)
