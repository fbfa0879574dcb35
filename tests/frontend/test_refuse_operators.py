from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from tvm_vacc.frontend.refuse_operators import needed_nodes


def _branch(inner: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph([inner], "b", [], [helper.make_empty_tensor_value_info("out")])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_what_only_a_subgraph_reads_is_needed_at_any_depth(depth: int) -> None:
    reader = helper.make_node("Neg", ["made"], ["out"])
    for _ in range(depth):
        reader = helper.make_node(
            "If", ["c"], ["out"], then_branch=_branch(reader), else_branch=_branch(reader)
        )
    maker = helper.make_node("Abs", ["x"], ["made"])
    unread = helper.make_node("Exp", ["x"], ["unread"])
    graph = helper.make_graph(
        [maker, unread, reader],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    assert [node.op_type for node in needed_nodes(graph)] == ["Abs", reader.op_type]
