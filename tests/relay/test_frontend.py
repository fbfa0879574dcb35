from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper

from tests.relay.models import answers, image_model, mlp_model
from tvm_vacc import relay
from tvm_vacc.errors import ConfigError, OnnxError, VaccError
from tvm_vacc.relay.graph_executor import GraphModule
from tvm_vacc.relay.infer import tensor_spec

X = np.random.default_rng(4).normal(size=(3, 17)).astype("float32")


def run(module: tvm.ir.IRModule, params: dict[str, Any], x: np.ndarray) -> list[np.ndarray]:
    library = relay.build(module, "tvm_vacc -mcpu=native", params=params)
    executor = GraphModule(library["default"](tvm.cpu()))
    executor.run(x=x)
    return [executor.get_output(index).numpy() for index in range(executor.get_num_outputs())]


def parameters(module: tvm.ir.IRModule) -> list[str]:
    return [param.name for param in module["main"].params]


def test_frozen_weights_are_constants() -> None:
    model = mlp_model()
    module, params = relay.frontend.from_onnx(model)
    assert params == {}
    assert parameters(module) == ["x"]
    for got, expected in zip(run(module, params, X), answers(model, x=X), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_others_are_parameters(tmp_path: Path) -> None:
    onnx.save_model(
        mlp_model(), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    module, params = relay.frontend.from_onnx(str(tmp_path / "m.onnx"), freeze_params=False)
    for path in tmp_path.iterdir():
        path.unlink()  # nothing is read from the files afterwards
    assert parameters(module) == ["x", *params]
    assert set(params) == {"up.weight", "up.bias", "down.weight"}
    for tensor in mlp_model().graph.initializer:
        assert params[tensor.name].shape == tuple(tensor.dims)
    other = {name: tvm.runtime.tensor(2 * value.numpy()) for name, value in params.items()}
    weights = {name: value.numpy() for name, value in other.items()}
    act = np.tanh(X @ weights["up.weight"] + weights["up.bias"])
    y = X + act @ weights["down.weight"]
    got = run(module, other, X)
    np.testing.assert_allclose(got[0], y, rtol=0, atol=1e-4)
    np.testing.assert_allclose(got[1], y.mean(-1, keepdims=True), rtol=0, atol=1e-4)


def test_the_caller_keeps_its_model() -> None:
    model = mlp_model()
    before = model.SerializeToString()
    relay.frontend.from_onnx(model, shape={"x": (2, 17)}, freeze_params=False)
    assert model.SerializeToString() == before


def shape_of(module: tvm.ir.IRModule) -> list[str]:
    param = module["main"].params[0]
    return [str(dim) for dim in tensor_spec(param.name, param.ty).shape]


def test_shapes() -> None:
    fixed, _ = relay.frontend.from_onnx(mlp_model(), {"x": (3, 17)})
    assert shape_of(fixed) == ["3", "17"]
    declared, _ = relay.frontend.from_onnx(mlp_model())
    assert shape_of(declared) == ["batch", "17"]
    kept, _ = relay.frontend.from_onnx(mlp_model(), {"x": (relay.Any(), 17)})
    assert shape_of(kept) == ["batch", "17"]
    opened, _ = relay.frontend.from_onnx(image_model(), {"image": (relay.Any(), 3, 9, 11)})
    assert shape_of(opened) == ["image_0", "3", "9", "11"]


def test_operands_that_steer_stay_in_the_graph() -> None:
    scales = numpy_helper.from_array(np.array([1, 1, 2, 3], "float32"), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, [1, 1, 2, 3])],
        [value("y", TensorProto.FLOAT, [1, 1, 4, 9])],
        [scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    module, params = relay.frontend.from_onnx(model, freeze_params=False)
    assert params == {}
    x = np.arange(6, dtype="float32").reshape(1, 1, 2, 3)
    [got] = run(module, params, x)
    np.testing.assert_array_equal(got, answers(model, x=x)[0])


def test_dtypes_and_opset() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [2, 3, 4])],
        [value("y", TensorProto.FLOAT, [2, 3, 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    half, _ = relay.frontend.from_onnx(model, dtype={"x": "float16"}, freeze_params=False)
    assert str(half["main"].params[0].ty.dtype) == "float16"
    # Before opset 13 softmax ran over all axes from the given one on: by default from 1.
    old, _ = relay.frontend.from_onnx(model, opset=11)
    x = np.random.default_rng(5).normal(size=(2, 3, 4)).astype("float32")
    [got] = run(old, {}, x)
    powers = np.exp(x)
    expected = powers / powers.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def broken_model() -> onnx.ModelProto:
    model = mlp_model()
    model.graph.node[0].op_type = "NoSuchOperator"
    model.graph.node[0].name = "first"
    return model


def model_with_absent_weights(directory: Path) -> onnx.ModelProto:
    path = directory / "absent.onnx"
    onnx.save_model(mlp_model(), path, save_as_external_data=True, location="w", size_threshold=0)
    return onnx.load(path, load_external_data=False)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda _: "nowhere.onnx", OnnxError, "nowhere.onnx: no such file"),
        (lambda _: __file__, OnnxError, "not an ONNX model"),
        (lambda _: onnx.ModelProto(), OnnxError, "the ONNX model: holds no graph"),
        (lambda _: b"bytes", OnnxError, "takes an ONNX model, not bytes"),
        (lambda _: broken_model(), OnnxError, "the ONNX model: operators .*NoSuchOperator .*first"),
        (model_with_absent_weights, OnnxError, "up.weight lies in a file of its own"),
    ],
)
def test_a_bad_model_gives_one_clear_error(
    tmp_path: Path, make: Any, kind: type[VaccError], message: str
) -> None:
    with pytest.raises(kind, match=message) as refused:
        relay.frontend.from_onnx(make(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": {"nope": (1, 2)}}, "shape names 'nope', .* its inputs are x"),
        ({"dtype": {"nope": "int8"}}, "dtype names 'nope'"),
        ({"dtype": {"x": "float99"}}, "dtype of x is 'float99'"),
        ({"shape": {"x": (2, 18)}}, r"shape of x: \[2, 18\] has 18 at axis 1"),
        ({"shape": {"x": (2,)}}, r"shape of x: \[2\] has 1 dimensions"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        relay.frontend.from_onnx(mlp_model(), **arguments)


def test_other_frontends_are_pointed_to() -> None:
    with pytest.raises(AttributeError, match="from_exported_program"):
        _ = relay.frontend.from_pytorch
