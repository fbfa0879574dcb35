"""The printed equivalents form a script of plain Relax, which runs and computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tvm

from tests.relay.models import answers, mlp_model
from tests.relay.test_operators import ARRAYS
from tvm_vacc import relay
from tvm_vacc.relay import explain
from tvm_vacc.relay.graph_executor import GraphModule


@pytest.fixture
def _explaining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_VACC_EXPLAIN", "1")
    monkeypatch.setattr(explain, "_NAMES", explain.Names())


def executed(script: str, **given: Any) -> dict[str, Any]:
    assert "relay" not in script
    scope = dict(given)
    exec(compile(script, "explained", "exec"), scope)
    return scope


@pytest.mark.usefixtures("_explaining")
def test_hand_built_functions(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("x", "y", "positive", "row", "three", "weight", "ids")
    v = {n: relay.var(n, shape=ARRAYS[n].shape, dtype=str(ARRAYS[n].dtype)) for n in names}
    x, row = v["x"], v["row"]
    parts = [
        relay.nn.softmax(relay.nn.dense(x, v["weight"]), axis=1),
        (x + v["y"]) * relay.const(0.5) - row,  # operators of Python print nothing themselves
        relay.nn.bias_add(x, v["three"]),
        relay.nn.layer_norm(x, row, relay.negative(row), epsilon=1e-3),
        relay.reshape(relay.transpose(x, (2, 0, 1)), (0, -1)),
        relay.split(x, [1, 4], axis=-1)[1],
        relay.concatenate(relay.split(x, 3, axis=1), axis=0),
        relay.strided_slice(x, [0, 4], [2, 0], [1, -2], [0, 2]),
        relay.take(v["weight"], v["ids"], axis=0),
        relay.where(relay.less(x, v["y"]), x, relay.zeros_like(x)),
        relay.cumsum(relay.cast(v["ids"], "float32"), axis=1),
        relay.mean(relay.clip(x, -1.0, 1.0), axis=[0, 2], keepdims=True),
        relay.full(relay.const(2.5), (2, 3)) + relay.ones((2, 3), "float32"),
        relay.multiply(relay.arange(5), relay.const(np.arange(5, dtype="float32"))),
        relay.expand_dims(relay.squeeze(relay.argmax(x, 1, keepdims=True)), 0),
        relay.repeat(relay.tile(row, (2, 1)), 2, axis=0),
        relay.broadcast_to(relay.stack([row, row], axis=0), (4, 2, 5)),
    ]
    body = relay.Tuple(parts)
    params = [v[name] for name in names]
    lib = relay.build(tvm.IRModule.from_expr(relay.Function(params, body)), "llvm")
    module = GraphModule(lib["default"](tvm.cpu()))
    data = {name: ARRAYS[name] for name in names}
    module.set_input(**data)
    module.run()
    outputs = [module.get_output(index).numpy() for index in range(module.get_num_outputs())]
    scope = executed(capsys.readouterr().err, data=data)
    assert len(outputs) == len(parts)
    for index, got in enumerate(outputs):
        np.testing.assert_array_equal(scope[f"output_{index}"].numpy(), got)


@pytest.mark.usefixtures("_explaining")
@pytest.mark.parametrize("freeze", [True, False])
def test_the_way_from_onnx(capsys: pytest.CaptureFixture[str], tmp_path: Any, freeze: bool) -> None:
    model = mlp_model()
    onnx.save(model, tmp_path / "model.onnx")
    mod, params = relay.frontend.from_onnx(
        tmp_path / "model.onnx", shape={"x": (3, 17)}, freeze_params=freeze
    )
    relay.partition_for_tvm_vacc(mod, params)
    with tvm.transform.PassContext(opt_level=3):
        lib = relay.build(mod, "tvm_vacc -mcpu=native", params=params)
    module = GraphModule(lib["default"](tvm.cpu()))
    _graph, _lib, weights = lib
    relay.load_param_dict(relay.save_param_dict(weights))
    assert (module.get_num_inputs() > 1, module.get_num_outputs()) == (True, 2)
    assert (module.get_input_index("x"), module.get_input_index("no")) == (0, -1)
    assert module.get_input_info()[1] == {"x": "float32"}
    module.get_input("x")
    data = {"x": np.random.default_rng(1).normal(size=(3, 17)).astype("float32")}
    module.run(**data)
    module.get_output(0)
    module.get_output(1)
    module.benchmark(tvm.cpu(), repeat=2, number=1)
    lib.export_library(tmp_path / "model.so")
    scope = executed(capsys.readouterr().err, data=data, params={})
    assert (scope["num_outputs"], scope["input_index"]) == (2, -1)
    assert next(iter(scope["input_types"])) == "x"
    for index, expected in enumerate(answers(model, **data)):
        got = scope[f"output_{index}"].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert len(scope["timing"].results) == 2
    assert (tmp_path / "model.so").stat().st_size > 0


def test_nothing_is_printed_unasked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVM_VACC_EXPLAIN", "0")
    relay.add(relay.const(1.0), relay.const(2.0))
    assert capsys.readouterr().err == ""
