"""If, Loop and Scan: what is written out, what is called, and what the data decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tvm import relax

from tests.frontend.onnx_files import assert_equals_onnx_runtime, value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import import_onnx
from tvm_vacc.limits import MAX_UNROLLED_STEPS

INT, BOOL = TensorProto.INT64, TensorProto.BOOL


def doubling_body() -> onnx.GraphProto:
    """Doubles x and collects it, until its sum passes `most`, which stands outside."""
    return helper.make_graph(
        [
            helper.make_node("Add", ["x_in", "x_in"], ["x_out"]),
            helper.make_node("ReduceSum", ["x_out"], ["total"], keepdims=0),
            helper.make_node("Less", ["total", "most"], ["again"]),
            helper.make_node("Identity", ["x_out"], ["row"]),
        ],
        "body",
        [value("i", [], INT), value("go", [], BOOL), value("x_in", ["n"])],
        [value("again", [], BOOL), value("x_out", ["n"]), value("row", ["n"])],
    )


@pytest.mark.parametrize(("limit", "most"), [(1, 30.0), (3, -1.0), (100, 30.0), (7, 1e9)])
def test_a_loop_ends_by_its_condition_or_its_limit(tmp_path: Path, limit: int, most: float) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["limit", "", "x"], ["y", "rows"], body=doubling_body())],
        [value("limit", [], INT), value("x", ["n"]), value("most", [])],
        [value("y", ["n"]), value("rows", ["steps", "n"])],
    )
    inputs = {
        "limit": np.array(limit),
        "x": np.array([1, 2, 3], np.float32),
        "most": np.array(most, np.float32),
    }
    assert_equals_onnx_runtime(path, inputs, atol=0)


def test_a_loop_of_no_step(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["limit", "", "x"], ["y", "rows"], body=doubling_body())],
        [value("limit", [], INT), value("x", ["n"]), value("most", [])],
        [value("y", ["n"]), value("rows", ["steps", "n"])],
    )
    x = np.array([1, 2, 3], np.float32)
    inputs = {"limit": np.array(0), "x": x, "most": np.array(9, np.float32)}
    y, rows = run_main(import_onnx(path).module, inputs)
    np.testing.assert_array_equal(y, x)
    assert rows.shape == (0, 3)


def test_a_loop_with_no_limit(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["", "go", "x"], ["y", "rows"], body=doubling_body())],
        [value("x", ["n"]), value("most", [])],
        [value("y", ["n"]), value("rows", ["steps", "n"])],
        {"go": np.array(True)},
    )
    inputs = {"x": np.ones(2, np.float32), "most": np.array(1000, np.float32)}
    assert_equals_onnx_runtime(path, inputs, atol=0)


def test_a_loop_whose_values_grow(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["x_in", "one"], ["x_out"], axis=0),
            helper.make_node("Identity", ["go"], ["again"]),
        ],
        "body",
        [value("i", [], INT), value("go", [], BOOL), value("x_in", ["k"])],
        [value("again", [], BOOL), value("x_out", ["k1"])],
    )
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["limit", "", "x"], ["y"], body=body)],
        [value("limit", [], INT), value("x", ["n"])],
        [value("y", ["m"])],
        {"one": np.ones(1, np.float32)},
    )
    inputs = {"limit": np.array(5), "x": np.zeros(3, np.float32)}
    assert_equals_onnx_runtime(path, inputs, atol=0)


@pytest.mark.parametrize("length", [3, MAX_UNROLLED_STEPS + 1, "n"])
@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_is_written_out_or_called(tmp_path: Path, length: int | str, backwards: int) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["sum_in", "next"], ["sum_out"]),
            helper.make_node("Mul", ["sum_out", "factor"], ["row"]),
        ],
        "body",
        [value("sum_in", [2]), value("next", [2])],
        [value("sum_out", [2]), value("row", [2])],
    )
    scan = helper.make_node(
        "Scan",
        ["start", "x"],
        ["y", "rows"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[backwards],
        scan_output_axes=[1],
        scan_output_directions=[backwards],
    )
    path = write(
        tmp_path / "m.onnx",
        [scan],
        [value("start", [2]), value("x", [2, length]), value("factor", [])],
        [value("y", [2]), value("rows", [2, length])],
    )
    steps = 5 if length == "n" else int(length)
    inputs = {
        "start": np.array([1, -1], np.float32),
        "x": np.arange(2 * steps, dtype=np.float32).reshape(2, steps),
        "factor": np.array(0.5, np.float32),
    }
    assert_equals_onnx_runtime(path, inputs, atol=0)
    module = import_onnx(path).module
    functions = {gvar.name_hint for gvar in module.get_global_vars()}
    assert ("repeat" in functions) == (length != 3)


def test_only_the_side_of_an_if_that_is_taken_runs(tmp_path: Path) -> None:
    """The other side would divide by nought; and `main` stays one block, for passes to rewrite."""
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["doubled"])], "then", [], [value("doubled", ["n"])]
    )
    otherwise = helper.make_graph(
        [helper.make_node("Div", ["count", "nought"], ["none"]),
         helper.make_node("Cast", ["none"], ["other"], to=TensorProto.FLOAT)],
        "else", [], [value("other", ["m"])],
    )  # fmt: skip
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)],
        [
            value("c", [], BOOL),
            value("x", ["n"]),
            value("count", ["m"], INT),
            value("nought", [], INT),
        ],
        [value("y", ["k"])],
    )  # fmt: skip
    inputs = {
        "c": np.array(True),
        "x": np.arange(3, dtype=np.float32),
        "count": np.array([4, 5]),
        "nought": np.array(0),
    }
    assert_equals_onnx_runtime(path, inputs, atol=0)
    assert len(import_onnx(path).module["main"].body.blocks) == 1


def test_a_branch_reads_what_the_graph_has_computed(tmp_path: Path) -> None:
    def side(op: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(op, ["h", "x"], ["z"])], op, [], [value("z", ["n"])]
        )

    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Neg", ["x"], ["h"]),
            helper.make_node("If", ["c"], ["y"], then_branch=side("Add"), else_branch=side("Sub")),
        ],
        [value("c", [], BOOL), value("x", ["n"])],
        [value("y", ["k"])],
    )
    for taken in (True, False):
        inputs = {"c": np.array(taken), "x": np.arange(3, dtype=np.float32)}
        assert_equals_onnx_runtime(path, inputs, atol=0)
    assert relax.analysis.check_well_formed(import_onnx(path).module)


def test_what_fails_in_a_body_is_named(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["again"]),
            helper.make_node("Cast", ["x_in"], ["x_out"], to=TensorProto.DOUBLE),
        ],
        "body",
        [value("i", [], INT), value("go", [], BOOL), value("x_in", ["n"])],
        [value("again", [], BOOL), value("x_out", ["n"], TensorProto.DOUBLE)],
    )
    path = write(
        tmp_path / "m.onnx",
        [helper.make_node("Loop", ["limit", "", "x"], ["y"], "widening", body=body)],
        [value("limit", [], INT), value("x", ["n"])],
        [value("y", ["n"], TensorProto.DOUBLE)],
    )
    with pytest.raises(OnnxError, match=r"node widening \(Loop\) .* a loop that makes"):
        import_onnx(path)
