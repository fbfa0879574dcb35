from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.frontend.one_line import one_line_error
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.weight_files import place_weights

VALUES = np.arange(4, dtype=np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    VALUES.tofile(directory / "w.safetensors")
    return directory / "w.safetensors"


def refuse(*_args: Any, **_options: Any) -> None:
    raise OSError(errno.EXDEV, "another file system")


def write_model(path: Path, location: str) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def accepted(path: Path) -> tuple[bool, bool]:
    """Whether onnx.checker accepts, and ONNX Runtime runs, the file at `path`."""
    try:
        onnx.checker.check_model(str(path))
        checker = True
    except onnx.checker.ValidationError:
        checker = False
    try:
        session = onnxruntime.InferenceSession(str(path))
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return checker, False
    (got,) = session.run(None, {"x": np.ones(4, np.float32)})
    np.testing.assert_array_equal(got, VALUES + 1)
    return checker, True


@pytest.mark.parametrize("below", [".", ".."])
def test_in_place_in_or_above_the_checkpoint(weights: Path, below: str) -> None:
    path = (weights.parent / below).resolve() / "model.onnx"
    placed = place_weights([weights], path)
    assert placed.way == "in place"
    assert placed.locations[weights] == os.path.relpath(weights, path.parent)
    write_model(path, placed.locations[weights])
    assert accepted(path) == (True, True)
    assert not (path.parent / "model.weights").exists()


def test_elsewhere_on_one_file_system(weights: Path, tmp_path: Path) -> None:
    """A clone where the file system can, else a hard link; twice, as after a second export."""
    path = tmp_path / "work" / "model.onnx"
    path.parent.mkdir()
    before = sorted(weights.parent.iterdir())
    for _ in range(2):
        placed = place_weights([weights], path)
        assert placed.locations == {weights: "model.weights/w.safetensors"}
        write_model(path, placed.locations[weights])
        assert accepted(path) == {"clone": (True, True), "hard link": (False, True)}[placed.way]
    assert sorted(weights.parent.iterdir()) == before


def test_on_another_file_system(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    monkeypatch.setattr("fcntl.ioctl", refuse)
    monkeypatch.setattr("os.link", refuse)
    placed = place_weights([weights], path)
    assert placed.way == "symlink"
    link = path.parent / placed.locations[weights]
    assert link.resolve() == weights
    write_model(path, placed.locations[weights])
    assert accepted(path) == (False, False)
    link.unlink()
    link.write_bytes(weights.read_bytes())  # what `cp -L` does
    assert accepted(path) == (True, True)


def test_where_nothing_can_be_linked(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    monkeypatch.setattr("fcntl.ioctl", refuse)
    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    line = one_line_error(lambda: place_weights([weights], path), names="weights", kind=OnnxError)
    assert "choose a workspace" in line
