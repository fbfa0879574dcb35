from __future__ import annotations

import numpy as np
import tvm

from tests.relay.models import answers, mlp_model
from tvm_vacc import relay
from tvm_vacc.relay.graph_executor import GraphModule


def operators(module: tvm.ir.IRModule) -> list[str]:
    names: list[str] = []

    def visit(expr: tvm.ir.Expr) -> None:
        if isinstance(expr, tvm.relax.Call) and isinstance(expr.op, tvm.ir.Op):
            names.append(expr.op.name)

    tvm.relax.analysis.post_order_visit(module["main"], visit)
    return names


def test_what_our_kernels_take_on_is_marked_and_the_rest_stays() -> None:
    model = mlp_model()
    module, params = relay.frontend.from_onnx(model, freeze_params=False)
    partitioned = relay.partition_for_tvm_vacc(module, params)
    found = operators(partitioned)
    assert found.count("relax.tvm_vacc.linear") == 2
    assert "relax.matmul" not in found
    assert "relax.tanh" in found
    assert [param.name for param in partitioned["main"].params] == ["x"]

    x = np.random.default_rng(6).normal(size=(5, 17)).astype("float32")
    library = relay.build(partitioned, "tvm_vacc -mcpu=native")
    assert "relax.tvm_vacc.packed_linear" in {call for call in operators_of_forward(library.ir_mod)}
    executor = GraphModule(library["default"](tvm.cpu()))
    executor.run(x=x)
    expected, _ = answers(model, x=x)
    np.testing.assert_allclose(executor.get_output(0).numpy(), expected, rtol=0, atol=1e-4)


def operators_of_forward(module: tvm.ir.IRModule) -> list[str]:
    return operators(tvm.ir.IRModule({"main": module["forward"]}))
