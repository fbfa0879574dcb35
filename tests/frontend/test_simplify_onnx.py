from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxsim
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.hf_export import TinyGlm, export_hf
from tests.frontend.onnx_files import value, write
from tests.relay_passes.running import run_main
from tvm_vacc.errors import VaccWarning
from tvm_vacc.frontend.import_onnx import import_onnx
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.simplify_onnx import simplify_onnx
from tvm_vacc.limits import MAX_FOLDED_BYTES

RNG = np.random.default_rng(0)
WIDE = RNG.standard_normal((96, 256), dtype=np.float32)  # 96 KiB: a weight, even inline
assert WIDE.nbytes > MAX_FOLDED_BYTES
NARROW = RNG.standard_normal((256,), dtype=np.float32)


def shape_arithmetic(path: Path, *, external: bool = False) -> Path:
    """``reshape(relu(x) @ wide.T.T + (narrow + narrow), shape(x)[:1] ++ [2, 128])``."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Transpose", ["wide"], ["t"], perm=[1, 0]),
        helper.make_node("Transpose", ["t"], ["tt"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "tt"], ["p"]),
        helper.make_node("Add", ["narrow", "narrow"], ["b"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Shape", ["x"], ["all"]),
        helper.make_node("Slice", ["all", "zero", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    weights = {
        "wide": WIDE,
        "narrow": NARROW,
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([2, 128]),
    }
    inputs, outputs = [value("x", ["n", 96])], [value("y", ["n", 2, 128])]
    return write(path, nodes, inputs, outputs, weights, external=external)


def load(path: Path) -> onnx.ModelProto:
    """What the importer hands over: integers are read, external floats are not."""
    model = load_onnx(path)
    external_tensors(model, path)
    return model


@pytest.mark.parametrize("external", [True, False])
def test_folds_shapes_keeps_weights_and_results(tmp_path: Path, external: bool) -> None:
    path = shape_arithmetic(tmp_path / "model.onnx", external=external)
    model, done = simplify_onnx(load(path))
    assert done.remark == ""
    assert (done.nodes_before, done.nodes_after) == (10, len(model.graph.node))
    assert done.nodes_after < 10
    assert "wide" in {tensor.name for tensor in model.graph.initializer}
    assert [i.name for i in model.graph.input] == ["x"]
    imported = import_onnx(path, simplify=True)
    x = RNG.standard_normal((3, 96), dtype=np.float32)
    want = (np.maximum(x, 0) @ WIDE + 2 * NARROW).reshape(3, 2, 128)
    weights = {name: ref.read() for name, ref in imported.weights.items()}
    (got,) = run_main(imported.module, {"x": x, **weights})
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_the_model_itself_stays_as_it_is(tmp_path: Path) -> None:
    model = load(shape_arithmetic(tmp_path / "model.onnx", external=True))
    before = model.SerializeToString(deterministic=True)
    simplify_onnx(model)
    assert model.SerializeToString(deterministic=True) == before


def test_hugging_face_export_keeps_every_weight_in_its_place(tmp_path: Path) -> None:
    path = export_hf(TinyGlm(layers=1), tmp_path / "model.onnx", 18)
    plain, simplified = import_onnx(path), import_onnx(path, simplify=True)
    assert plain.simplification is None
    assert simplified.weights == plain.weights
    assert (simplified.inputs, simplified.outputs) == (plain.inputs, plain.outputs)
    done = simplified.simplification
    assert done is not None
    assert done.nodes_after < done.nodes_before / 2


def test_weights_beyond_the_protobuf_limit_are_not_read(tmp_path: Path) -> None:
    rows, columns = 300_000, 4096  # 4.9 GB of fp32
    (tmp_path / "weights").touch()
    with (tmp_path / "weights").open("r+b") as stream:
        stream.truncate(rows * columns * 4)  # sparse: it takes no disk
    tensor = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, columns])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    nodes = [
        helper.make_node("Identity", ["ids"], ["same"]),
        helper.make_node("Gather", ["table", "same"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("ids", ["n"], TensorProto.INT64)],
        [value("y", ["n", columns])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    imported = import_onnx(path, simplify=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000  # KiB
    assert imported.weights["table"].shape == (rows, columns)
    assert imported.simplification is not None
    assert imported.simplification.remark == ""
    assert imported.simplification.nodes_after == 1


def renamed(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"


def retyped(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def resized(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 64


def reordered(model: onnx.ModelProto) -> None:
    model.graph.input.insert(0, value("x2", [1]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (renamed, "the names or the order of the outputs"),
        (retyped, "the type of the input x"),
        (resized, "the type of the output y"),
        (reordered, "the names or the order of the inputs"),
    ],
)
def test_a_changed_signature_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, reason: str
) -> None:
    def simplify(
        model: onnx.ModelProto, perform_optimization: bool
    ) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        change(changed)
        return changed, True

    monkeypatch.setattr(onnxsim, "simplify", simplify)
    path = shape_arithmetic(tmp_path / "model.onnx")
    with pytest.warns(VaccWarning, match=f"leaves the graph as it was read: it changed {reason}$"):
        result, done = simplify_onnx(load(path))
    assert result == load(path)
    assert reason in done.remark
    assert done.nodes_after == done.nodes_before == 10


def test_what_onnxsim_cannot_handle_is_compiled_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simplify(model: onnx.ModelProto, **_options: Any) -> tuple[onnx.ModelProto, bool]:
        raise RuntimeError("no such luck\nat line 7")

    monkeypatch.setattr(onnxsim, "simplify", simplify)
    path = shape_arithmetic(tmp_path / "model.onnx")
    with pytest.warns(VaccWarning, match=r"leaves the graph as it was read: no such luck$"):
        imported = import_onnx(path, simplify=True)
    assert imported.simplification is not None
    assert imported.simplification.remark.endswith("no such luck")


def test_where_the_optimiser_fails_constants_are_folded_all_the_same(tmp_path: Path) -> None:
    nodes = [  # two transposes without a perm before a product: onnxsim 0.8.1 trips over them
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Transpose", ["t"], ["tt"]),
        helper.make_node("MatMul", ["x", "tt"], ["p"]),
        helper.make_node("Add", ["narrow", "narrow"], ["b"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    inputs = [value("x", ["n", 96]), value("w", [96, 256])]
    outputs = [value("y", ["n", 256])]
    path = write(tmp_path / "model.onnx", nodes, inputs, outputs, {"narrow": NARROW})
    with pytest.warns(VaccWarning, match="folds constants only: .*Assertion"):
        _, done = simplify_onnx(load(path))
    assert done.nodes_after == 4


def test_an_initialiser_listed_as_input_as_before_ir_version_4(tmp_path: Path) -> None:
    model = load(shape_arithmetic(tmp_path / "model.onnx"))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in model.graph.initializer
    )
    result, done = simplify_onnx(model)
    assert done.remark == ""
    wide = next(t for t in result.graph.initializer if t.name == "wide")
    np.testing.assert_array_equal(numpy_helper.to_array(wide), WIDE)
