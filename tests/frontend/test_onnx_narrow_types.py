"""ONNX's own cases of the quantisation operators, and what is refused of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases

from tests.frontend.onnx_case import run_case
from tests.frontend.onnx_files import value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import import_onnx

OPERATORS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearMatMul",
    "MatMulInteger",
)
NO_TENSORS = ("float8", "float4", "int4", "int2")
"""Element types that TVM has no tensors of, or rounds wrongly, and their unsigned kin."""

CASES = {
    case.name: case
    for case in collect_testcases(None)
    if case.model is not None and {node.op_type for node in case.model.graph.node} & {*OPERATORS}
}


def element_types(model: onnx.ModelProto) -> list[str]:
    values = (*model.graph.input, *model.graph.output)
    types = [value.type.tensor_type.elem_type for value in values]
    return [TensorProto.DataType.Name(type_).lower() for type_ in types]


@pytest.mark.parametrize("name", CASES)
def test_cases_of_onnx(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    types = element_types(case.model)
    if not any(kind in type_ for kind in NO_TENSORS for type_ in types):
        run_case(case.model, case.data_sets, case.rtol, case.atol)
        return
    onnx.save(case.model, tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match=r"node (Q|Deq)uantizeLinear .*, which TVM has no"):
        import_onnx(tmp_path / "m.onnx")


def test_there_are_cases_of_every_operator() -> None:
    made = {node.op_type for case in CASES.values() for node in case.model.graph.node}
    assert made >= set(OPERATORS)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_four_bits_inside_a_graph(kind: int, tmp_path: Path) -> None:
    zero = helper.make_tensor("zero", kind, [], [2])
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
    model = onnx.load(path)
    model.graph.initializer.append(zero)
    onnx.save(model, path)
    x = np.linspace(-9, 9, 41, dtype=np.float32)
    want = onnxruntime.InferenceSession(path).run(None, {"x": x})
    values: dict[str, Any] = {"x": x}
    np.testing.assert_array_equal(run_main(import_onnx(path).module, values), want)
