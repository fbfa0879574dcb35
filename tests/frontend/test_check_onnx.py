from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from tests.frontend.glm_factory import make_glm_checkpoint
from tests.frontend.one_line import one_line_error
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.check_onnx import check_onnx
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check")
    checkpoint = open_checkpoint(make_glm_checkpoint(root / "m", num_hidden_layers=1))
    return export_onnx(checkpoint, root / "work" / "model.onnx")


def test_accepts_an_export(exported: Path) -> None:
    check_onnx(exported)


def set_dim(value: onnx.ValueInfoProto, axis: int, name: str) -> None:
    value.type.tensor_type.shape.dim[axis].dim_param = name


def set_external(graph: onnx.GraphProto, key: str, text: str) -> None:
    tensor = next(t for t in graph.initializer if t.name == "lm_head.weight")
    next(entry for entry in tensor.external_data if entry.key == key).value = text


def break_node(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "Softmax").op_type = "Softmaximum"


def dangle(graph: onnx.GraphProto) -> None:
    graph.node[-1].input[0] = "nobody"


BROKEN: dict[str, tuple[Callable[[onnx.GraphProto], object], str]] = {
    "no input_ids": (lambda g: g.input.remove(g.input[0]), "input_ids"),
    "another input": (lambda g: g.input.add(name="attention_mask"), "attention_mask"),
    "ids are floats": (
        lambda g: setattr(g.input[0].type.tensor_type, "elem_type", TensorProto.FLOAT),
        "input_ids is FLOAT",
    ),
    "another name for seq": (lambda g: set_dim(g.input[1], 1, "length"), "position_ids"),
    "no logits": (lambda g: g.output.remove(g.output[0]), "logits"),
    "symbolic vocabulary": (lambda g: set_dim(g.output[0], 2, "v"), "logits"),
    "spaces in a sum": (lambda g: set_dim(g.output[1], 2, "past + seq"), "present.0.key"),
    "batch of one": (
        lambda g: setattr(g.input[2].type.tensor_type.shape.dim[0], "dim_value", 1),
        "past_key_values.0.key",
    ),
    "beyond the file": (lambda g: set_external(g, "offset", str(10**12)), "lm_head.weight"),
    "another length": (lambda g: set_external(g, "length", "4"), "lm_head.weight"),
    "no such file": (lambda g: set_external(g, "location", "gone"), "gone"),
    "out of the directory": (lambda g: set_external(g, "location", "../x"), "lm_head.weight"),
    "unknown operator": (break_node, "Softmaximum"),
    "unknown value": (dangle, "nobody"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_file_is_one_line(exported: Path, case: str) -> None:
    change, names = BROKEN[case]
    model = onnx.load(exported, load_external_data=False)
    change(model.graph)
    path = exported.with_name("broken.onnx")
    path.write_bytes(model.SerializeToString())
    line = one_line_error(lambda: check_onnx(path), names=names, kind=OnnxError)
    assert "broken.onnx" in line


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"not onnx"])
def test_no_onnx_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    one_line_error(lambda: check_onnx(path), names="model.onnx", kind=OnnxError)


def test_no_file(tmp_path: Path) -> None:
    one_line_error(lambda: check_onnx(tmp_path / "gone.onnx"), names="gone.onnx", kind=OnnxError)
