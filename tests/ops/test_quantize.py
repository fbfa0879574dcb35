"""`quantize` and `dequantize` against ONNX's own reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tests.ops.harness import run_op
from tvm_vacc.ops import dequantize, quantize

CASES: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "one number": ((), {}),
    "a vector of one": ((1,), {}),
    "a vector": ((5,), {"axis": 1}),
    "blocks": ((3, 2, 4), {"axis": 1, "block_size": 3}),
    "blocks of which the last is cut": ((3, 3, 4), {"axis": 1, "block_size": 2}),
}


def onnx_reference(kind: str, arrays: list[np.ndarray], **attributes: Any) -> np.ndarray:
    types = [helper.np_dtype_to_tensor_dtype(array.dtype) for array in arrays]
    names = ["x", "scale", "zero"][: len(arrays)]
    inputs = [
        helper.make_tensor_value_info(name, type_, array.shape)
        for name, type_, array in zip(names, types, arrays, strict=True)
    ]
    node = helper.make_node(kind, names, ["y"], **attributes)
    y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "g", inputs, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("case", CASES)
def test_equals_onnx(case: str, dtype: str) -> None:
    shape, attributes = CASES[case]
    rng = np.random.default_rng(0)
    x = 300 * rng.standard_normal((3, 5, 4), dtype=np.float32)
    x[0, 0] = [0.5, 1.5, -2.5, 1e9]  # halves go to even, what is too large is clipped
    scale = np.where(rng.random(shape) < 0.3, 1, rng.uniform(0.5, 3, shape)).astype(np.float32)
    info = np.iinfo(dtype)
    zero = rng.integers(info.min, info.max + 1, shape).astype(dtype)
    if case.endswith("cut"):  # ONNX's reference takes whole blocks only
        wide = [np.repeat(array, 2, 1)[:, :5] for array in (scale, zero)]
        want = np.clip(np.rint(x / wide[0]) + wide[1], info.min, info.max).astype(dtype)
        floats = (want.astype(np.float32) - wide[1]) * wide[0]
    elif "block_size" in attributes:
        x = np.concatenate([x, x[:, :1]], axis=1)
        want = onnx_reference("QuantizeLinear", [x, scale, zero], **attributes)
        floats = onnx_reference("DequantizeLinear", [want, scale, zero], **attributes)
    else:
        want = onnx_reference("QuantizeLinear", [x, scale, zero], **attributes)
        floats = onnx_reference("DequantizeLinear", [want, scale, zero], **attributes)
    attrs = {"axis": 1, "block_size": 0} | attributes
    bits = info.bits
    to_codes = attrs | {"dtype": dtype, "bits": bits, "precision": "float32"}
    to_floats = attrs | {"dtype": "float32", "bits": bits}
    np.testing.assert_array_equal(run_op(quantize, [x, scale, zero], **to_codes), want)
    np.testing.assert_array_equal(quantize.reference(x, scale, zero, **to_codes), want)
    np.testing.assert_allclose(run_op(dequantize, [want, scale, zero], **to_floats), floats)
    np.testing.assert_allclose(dequantize.reference(want, scale, zero, **to_floats), floats)


def test_codes_of_four_bits_end_where_four_bits_do() -> None:
    x, scale = np.array([-100, -8.4, 7.4, 100], np.float32), np.array(1, np.float32)
    attrs = {"axis": 0, "block_size": 0, "dtype": "int8", "bits": 4, "precision": "float32"}
    np.testing.assert_array_equal(run_op(quantize, [x, scale], **attrs), [-8, -8, 7, 7])
    np.testing.assert_array_equal(quantize.reference(x, scale, **attrs), [-8, -8, 7, 7])
    codes = np.array([-8, 7], np.int8)
    attrs = {"axis": 0, "block_size": 0, "dtype": "float16", "bits": 4}
    got = run_op(dequantize, [codes, np.array(0.5, np.float32)], **attrs)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, [-4, 3.5])


@pytest.mark.parametrize(
    ("shape", "block"),
    [((2, 3), 0), ((5, 1, 1), 0), ((5,), 2)],
    ids=["a matrix", "as x", "blocks of a vector"],
)
def test_a_scale_that_does_not_fit_is_refused(shape: tuple[int, ...], block: int) -> None:
    x, scale = np.zeros((5, 3, 4), np.int8), np.ones(shape, np.float32)
    attrs = {"axis": 0, "block_size": block, "dtype": "float32", "bits": 8}
    with pytest.raises(TypeError, match="dequantize: the scale"):
        run_op(dequantize, [x, scale], **attrs)
