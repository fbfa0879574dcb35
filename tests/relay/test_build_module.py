from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from tvm_vacc import relay
from tvm_vacc.errors import ConfigError, RequestError, TargetError, VaccError
from tvm_vacc.relay import graph_executor
from tvm_vacc.relay.factory import GraphExecutorFactoryModule
from tvm_vacc.relay.graph_executor import GraphModule
from tvm_vacc.relay.pass_context import KEY
from tvm_vacc.relay.targets import resolve_target

RNG = np.random.default_rng(8)
W = RNG.normal(size=(13, 6)).astype("float32")
X = RNG.normal(size=(4, 6)).astype("float32")
TABLE = np.array([3, 1, 2], "int32")


def module() -> tvm.ir.IRModule:
    """``(x @ w.T + bias, [3, 1, 2])``: a weight to bind, a large constant, integers."""
    x = relay.var("x", shape=("rows", 6))
    w = relay.var("w", shape=(13, 6))
    y = relay.nn.bias_add(relay.nn.dense(x, w), relay.const(W[:, 0]))
    return tvm.IRModule.from_expr(relay.Function([x, w], relay.Tuple([y, relay.const(TABLE)])))


def check(executor: GraphModule, weight: np.ndarray = W) -> None:
    executor.run(x=X)
    np.testing.assert_allclose(
        executor.get_output(0).numpy(), X @ weight.T + W[:, 0], rtol=0, atol=1e-4
    )
    np.testing.assert_array_equal(executor.get_output(1).numpy(), TABLE)


@pytest.fixture(scope="module", params=["llvm", "tvm_vacc -mcpu=native"])
def library(request: pytest.FixtureRequest) -> GraphExecutorFactoryModule:
    return relay.build(module(), request.param, params={"w": W})


def test_the_three_parts_of_old(library: GraphExecutorFactoryModule, tmp_path: Path) -> None:
    graph, lib, params = library
    assert graph == library.get_graph_json()
    assert params.keys() == library.get_params().keys() == {"p0", "p1"}
    nodes = json.loads(graph)["nodes"]
    assert [node["name"] for node in nodes] == ["x", "p0", "p1", "forward"]

    check_after_loading(graph_executor.create(graph, lib, tvm.cpu()), params)
    lib.export_library(str(tmp_path / "lib.so"))
    loaded = tvm.runtime.load_module(str(tmp_path / "lib.so"))
    check_after_loading(graph_executor.create(graph, loaded, tvm.cpu()), params)


def check_after_loading(executor: GraphModule, params: Any) -> None:
    with pytest.raises(RequestError, match="no weights yet; call load_params"):
        executor.run(x=X)
    executor.load_params(relay.save_param_dict(params))
    check(executor)


def test_an_exported_library_carries_its_weights(
    library: GraphExecutorFactoryModule, tmp_path: Path
) -> None:
    library.export_library(tmp_path / "model.so")
    loaded = tvm.runtime.load_module(str(tmp_path / "model.so"))
    check(GraphModule(loaded["default"](tvm.cpu())))
    check(GraphModule(loaded["default"](tvm.cpu(0))))  # and again


def test_inputs_and_outputs(library: GraphExecutorFactoryModule) -> None:
    executor = GraphModule(library["default"](tvm.cpu()))
    assert executor.get_num_inputs() == 3  # weights included, as ever
    assert executor.get_num_outputs() == 2
    assert executor.get_input_index("x") == 0
    assert executor.get_input_index("w") == -1
    assert executor.get_output_index("none of that name") == -1
    assert executor.get_input_info() == ({"x": ("rows", 6)}, {"x": "float32"})
    executor.set_input(0, X.astype("float64"))  # NumPy arrays are converted
    np.testing.assert_array_equal(executor.get_input("x").numpy(), X)
    executor.set_input("x", tvm.runtime.tensor(X), w=2 * W)  # w is bound: passed over, as ever
    executor.run()
    out = tvm.runtime.empty((4, 13))
    assert executor.get_output(0, out).same_as(out)
    np.testing.assert_allclose(out.numpy(), X @ W.T + W[:, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.get_output(0), r"no outputs yet; call run\(\)"),
        (lambda e: e.run(), "'x' has not been set"),
        (lambda e: e.run(z=X), "no input 'z'; its inputs: x"),
        (lambda e: e.set_input(7, X), "no input 7"),
        (lambda e: e.set_input("x", X[:, 1:]), r"float32\[4, 5\], it must be float32\[rows, 6\]"),
        (lambda e: e.set_input("x", tvm.runtime.tensor(X.astype("float64"))), r"is float64\[4, 6"),
        (lambda e: e.load_params(b"nonsense"), "no saved weights"),
        (lambda e: e.benchmark(tvm.cpu(), func_name="main"), "only run can be timed"),
    ],
)
def test_misuse_is_refused(library: GraphExecutorFactoryModule, call: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        call(GraphModule(library["default"](tvm.cpu())))


def test_the_functions_of_old(library: GraphExecutorFactoryModule) -> None:
    executor = GraphModule(library["default"](tvm.cpu()))
    executor.module["set_input"]("x", X)
    assert len(executor.module.time_evaluator("run", tvm.cpu(), number=1, repeat=2)().results) == 2
    with pytest.raises(AttributeError, match=r"share_params is not brought back .* load_params"):
        executor.share_params(executor, b"")
    with pytest.raises(RequestError, match="no function 'profile'; set_input, run"):
        executor.module["profile"]


def test_other_misuse_is_refused(library: GraphExecutorFactoryModule) -> None:
    with pytest.raises(ConfigError, match=r"give tvm\.cpu"):
        library["default"](tvm.cuda())
    with pytest.raises(ConfigError, match="it has 'default'"):
        _ = library["main"]
    with pytest.raises(ConfigError, match="GraphModule takes what"):
        GraphModule(library.get_lib())
    with pytest.raises(ConfigError, match="not made by tvm_vacc"):
        graph_executor.create("{}", library.get_lib(), tvm.cpu())


@pytest.mark.parametrize("end_to_end", [False, True])
def test_benchmark(library: GraphExecutorFactoryModule, end_to_end: bool) -> None:
    executor = GraphModule(library["default"](tvm.cpu()))
    timing = executor.benchmark(
        tvm.cpu(), repeat=3, number=2, min_repeat_ms=1, end_to_end=end_to_end, x=X
    )
    assert len(timing.results) == 3
    assert 0 < timing.min <= timing.median <= timing.max < 1
    assert timing.min <= timing.mean <= timing.max
    assert timing.std == pytest.approx(np.std(timing.results))
    assert "mean (ms)" in str(timing)
    assert "BenchmarkResult" in repr(timing)


def test_a_static_input_that_nobody_set_is_zeros() -> None:
    x = relay.var("x", shape=(2, 3))
    function = relay.Function([x], relay.exp(x))
    executor = GraphModule(relay.build(function, "llvm", mod_name="mine")["mine"](tvm.cpu()))
    executor.run()
    np.testing.assert_array_equal(executor.get_output(0).numpy(), np.ones((2, 3)))


def test_a_parameter_that_is_not_bound_is_an_input() -> None:
    executor = GraphModule(relay.build(module(), "tvm_vacc -mcpu=native")["default"](tvm.cpu()))
    executor.set_input(w=2 * W)
    check(executor, weight=2 * W)


def test_options_and_the_pass_context_reach_the_passes(capsys: pytest.CaptureFixture[str]) -> None:
    options = {KEY: {"dtype": "bf16", "print_ir_after": ["fuse_linear"]}}
    with tvm.transform.PassContext(opt_level=3, config=options):
        narrow = relay.build(module(), "tvm_vacc -mcpu=native", params={"w": W})
    assert "# after fuse_linear" in capsys.readouterr().out
    assert "bfloat16" in {str(tensor.dtype) for tensor in narrow.params.values()}
    executor = GraphModule(narrow["default"](tvm.cpu()))
    executor.run(x=X)
    np.testing.assert_allclose(executor.get_output(0).numpy(), X @ W.T + W[:, 0], rtol=0, atol=0.1)

    for context in ({"opt_level": 0}, {"opt_level": 3, "disabled_pass": ["fuse_linear"]}):
        with tvm.transform.PassContext(**context):
            plain = relay.build(module(), "tvm_vacc -mcpu=native", params={"w": W})
        assert "linear" not in plain.ir_mod.script()
        check(GraphModule(plain["default"](tvm.cpu())))


def test_the_target_that_surrounds_the_call() -> None:
    x = relay.var("x", shape=(2,))
    with tvm.target.Target("llvm"):
        assert relay.build(relay.Function([x], x + x)).target.kind.name == "llvm"


@pytest.mark.parametrize("target", [{"cpu": "llvm"}, {tvm.cpu(): "llvm"}, {"kind": "llvm"}])
def test_a_target_by_device_or_as_a_config(target: dict[Any, Any]) -> None:
    assert resolve_target(target, None).kind.name == "llvm"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"target": None}, TargetError, "there is no target"),
        ({"target": "cuda"}, TargetError, "unknown target 'cuda'"),
        ({"target": ["llvm", "llvm -mcpu=znver4"]}, TargetError, "differ"),
        ({"target": {"cpu": "llvm", "cuda": "cuda"}}, TargetError, "devices are cpu, cuda"),
        ({"executor": "aot"}, ConfigError, "no executor 'aot'"),
        ({"executor": relay.backend.Executor("vm")}, ConfigError, "no executor 'vm'"),
        ({"runtime": relay.backend.Runtime("crt")}, ConfigError, "no runtime 'crt'"),
        ({"mod_name": "a b"}, ConfigError, "mod_name is 'a b'"),
        ({"params": {"ww": W}}, ConfigError, "no parameter 'ww'; did you mean 'w'?"),
        ({"params": {"w": W.T}}, ConfigError, r"w is float32\[6, 13\], main takes"),
        ({"params": {"w": W.astype("float16")}}, ConfigError, "w is float16"),
        ({"ir_mod": tvm.ir.IRModule()}, ConfigError, "no Relax function main"),
    ],
)
def test_what_cannot_be_built_is_refused(
    arguments: dict[str, Any], kind: type[VaccError], message: str
) -> None:
    given = {"ir_mod": module(), "target": "llvm", **arguments}
    with pytest.raises(kind, match=message):
        relay.build(**given)


def test_an_unknown_option_is_refused_by_the_build() -> None:
    with (
        tvm.transform.PassContext(config={KEY: {"dtpye": "fp16"}}),
        pytest.raises(ConfigError, match="did you mean 'dtype'"),
    ):
        relay.build(module(), "tvm_vacc -mcpu=native")


def test_graph_and_runtime_may_be_named() -> None:
    x = relay.var("x", shape=(2,))
    relay.build(
        relay.Function([x], x + x),
        "llvm",
        target_host="llvm",
        executor=relay.backend.Executor("graph"),
        runtime=relay.backend.Runtime("cpp"),
    )
