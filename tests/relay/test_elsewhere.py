from __future__ import annotations

from typing import Any

import pytest
import tvm
from tvm import relax

from tvm_vacc import relay
from tvm_vacc.errors import VaccWarning


@pytest.mark.parametrize(
    ("module", "name", "full"),
    [
        (relay.nn, "conv2d", "relax.op.nn.conv2d"),
        (relay, "conv2d", "relax.op.nn.conv2d"),
        (relay.nn, "max_pool2d", "relax.op.nn.max_pool2d"),
        (relay.nn, "leaky_relu", "relax.op.nn.leakyrelu"),
        (relay, "topk", "relax.op.topk"),
        (relay, "image", "relax.op.image"),
        (relay, "gather", "relax.op.gather_elements"),
        (relay.transform, "FoldConstant", "relax.transform.FoldConstant"),
        (relay.analysis, "free_var", "relax.analysis.free_vars"),
        (relay, "If", "relax.If"),
        (relay, "build_config", "tvm.ir.transform.PassContext"),
    ],
)
def test_a_name_that_is_not_there_says_what_relax_has(module: Any, name: str, full: str) -> None:
    with pytest.raises(AttributeError, match=rf"{name} is not brought back") as missing:
        getattr(module, name)
    assert str(missing.value).endswith(full)
    found: Any = tvm
    for part in full.removeprefix("tvm.").split("."):
        found = getattr(found, part)  # what it names is there


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(AttributeError, match="Relax has none either"):
        _ = relay.create_executor_of_my_own
    assert not hasattr(relay, "__wrapped__")


def test_every_public_name_is_there() -> None:
    assert all(hasattr(relay, name) for name in relay.__all__)
    assert relay.op.nn.dense is relay.nn.dense
    assert relay.op.add is relay.add


def test_infer_type_does_nothing_and_says_so() -> None:
    x = relay.var("x", shape=(2, 3))
    module = tvm.IRModule.from_expr(relay.Function([x], relay.sqrt(x)))
    with pytest.warns(VaccWarning, match="does nothing"):
        same = relay.transform.InferType()(module)
    tvm.ir.assert_structural_equal(same, module)


def test_free_vars_come_in_the_order_of_reading_and_without_dimensions() -> None:
    n = relay.Any()
    a, b = relay.var("a", shape=(n, 3)), relay.var("b", shape=(n, 3))
    body = relay.subtract(b, relay.exp(a)) + b
    assert [var.name for var in relay.analysis.free_vars(body)] == ["b", "a"]


def test_a_shared_expression_is_computed_once() -> None:
    x = relay.var("x", shape=(3,))
    y = x
    for _ in range(40):  # 2 ** 40 calls were it copied, or walked into as often
        y = relay.add(y, y)
    assert relay.analysis.free_vars(y) == [x]
    function = relay.Function([x], y)
    calls = [b for block in function.body.blocks for b in block.bindings]
    assert len([b for b in calls if isinstance(b.value, relax.Call)]) == 40
