from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tvm_vacc.frontend.onnx_inline_data import inline_matrices


def model_with(weights: list[onnx.TensorProto], nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights))


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [(np.float32, False), (np.float32, True), (np.float16, True), (ml_dtypes.bfloat16, True)],
)
def test_the_bytes_are_found_whatever_form_they_have(
    tmp_path: Path, dtype: type, raw: bool
) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((4, 4)).astype(dtype) for name in ("b", "a")}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    if not raw:
        tensors = [
            helper.make_tensor(name, TensorProto.FLOAT, (4, 4), array.ravel())
            for name, array in arrays.items()
        ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Gemm", ["h", "b"], ["y"]),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(model_with(tensors, nodes), path)
    refs = inline_matrices(onnx.load(path), path)
    assert set(refs) == {"a", "b"}
    for name, ref in refs.items():
        np.testing.assert_array_equal(ref.read(), arrays[name])
        assert (ref.file, ref.name, ref.dtype) == (path, name, np.dtype(dtype).name)


def test_only_what_products_take_on_the_right_and_the_file_holds(tmp_path: Path) -> None:
    ones, twos = np.ones((4, 4), np.float32), np.full((4, 4), 2, np.float32)
    tensors = [numpy_helper.from_array(ones, "left"), numpy_helper.from_array(twos, "shift")]
    nodes = [
        helper.make_node("MatMul", ["left", "x"], ["h"]),
        helper.make_node("Add", ["h", "shift"], ["y"]),
    ]
    path = tmp_path / "m.onnx"
    onnx.save(model_with(tensors, nodes), path)
    assert inline_matrices(onnx.load(path), path) == {}
    made = numpy_helper.from_array(np.full((4, 4), 3, np.float32), "made")
    later = model_with([made], [helper.make_node("MatMul", ["x", "made"], ["y"])])
    assert inline_matrices(later, path) == {}
