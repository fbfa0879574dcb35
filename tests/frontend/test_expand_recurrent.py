"""LSTM, GRU and RNN against ONNX Runtime: what ONNX's own cases leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.frontend.onnx_files import assert_equals_onnx_runtime, value, write
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import import_onnx

S, B, I, H = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(
    path: Path,
    kind: str,
    *,
    dirs: int = 1,
    lengths: bool = False,
    states: bool = False,
    **given: Any,
) -> tuple[Path, dict[str, np.ndarray]]:
    """Write a model of one layer, steps and batch open; return it and inputs for it."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.5, shape).astype("float32")

    rows = GATES[kind] * H
    weights = {"w": weight(dirs, rows, I), "r": weight(dirs, rows, H), "b": weight(dirs, 2 * rows)}
    x = weight(S, B, I)
    inputs, declared = {"x": x}, [value("x", ["steps", "batch", I])]
    names = ["x", *weights, *[""] * (4 if kind == "LSTM" else 2)]
    if lengths:
        names[4] = "lengths"
        inputs["lengths"] = np.array([1, 2, S], "int32")
        declared.append(value("lengths", ["batch"], TensorProto.INT32))
    for place, name in enumerate(("h", "c") if kind == "LSTM" else ("h",)):
        if states:
            names[5 + place], inputs[name] = name, weight(dirs, B, H)
            declared.append(value(name, [dirs, "batch", H]))
    if kind == "LSTM" and states:
        names[7], weights["p"] = "p", weight(dirs, 3 * H)
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    made = [value("y", ["steps", dirs, "batch", H])]
    made += [value(name, [dirs, "batch", H]) for name in outputs[1:]]
    node = helper.make_node(kind, names, outputs, hidden_size=H, name="cell", **given)
    return write(path, [node], declared, made, weights), inputs


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"dirs": 2, "direction": "bidirectional", "lengths": True, "states": True}),
        ("LSTM", {"input_forget": 1, "clip": 0.3}),
        ("GRU", {"direction": "reverse", "lengths": True, "linear_before_reset": 1}),
        ("RNN", {"dirs": 2, "direction": "bidirectional", "activations": ["Relu", "Softsign"]}),
    ],
)
def test_a_layer_with_open_steps_and_batch(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    path, inputs = layer(tmp_path / "m.onnx", kind, **options)
    assert_equals_onnx_runtime(path, inputs, atol=1e-5)


def test_an_activation_of_parameters_is_refused_by_the_name_of_its_node(tmp_path: Path) -> None:
    path, _ = layer(tmp_path / "m.onnx", "RNN", activations=["LeakyRelu"], activation_alpha=[0.1])
    with pytest.raises(OnnxError, match=r"RNN \(nodes cell\)"):
        import_onnx(path)
