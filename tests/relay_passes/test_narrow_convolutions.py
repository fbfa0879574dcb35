from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import ir, relax

from relay_passes.narrow_convolutions import NarrowConvolutions
from relay_passes.pack_weights import PackWeights
from relay_passes.weight_plan import read_plan
from tests.ops.harness import to_numpy, to_tvm
from tests.relay_passes.build import module
from tests.relay_passes.running import apply, op_names
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import PassError

RNG = np.random.default_rng(0)
X, W = (RNG.standard_normal(shape, dtype=np.float32) for shape in ((1, 4, 6, 6), (8, 4, 3, 3)))


def convolution(weight: Any = None) -> ir.IRModule:
    """One whose weight is a parameter, or the constant `weight`."""
    weights = {"w": W.shape} if weight is None else {}

    def body(emit: Any, x: relax.Var, *stored: relax.Var) -> relax.Expr:
        return relax.op.nn.conv2d(x, *(stored or [relax.const(weight)]))

    return module({"x": X.shape}, weights, body)


def rounded(dtype: str) -> np.ndarray:
    """ONNX Runtime's answer to a weight that was rounded to `dtype`."""
    narrow = W.astype(NUMPY_DTYPES[dtype]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(narrow, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    [answer] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": X})
    return np.asarray(answer)


def run(graph: ir.IRModule, *arrays: np.ndarray) -> np.ndarray:
    machine = relax.VirtualMachine(tvm.compile(graph, target="tvm_vacc"), tvm.cpu())
    return to_numpy(machine["main"](*map(to_tvm, arrays)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_constant_is_rounded_and_stays_narrow(dtype: str) -> None:
    result = NarrowConvolutions(dtype).apply(convolution(W))
    assert result.matches == 1
    np.testing.assert_allclose(run(result.module, X), rounded(dtype), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_parameter_is_packed_in_its_dtype(dtype: str) -> None:
    packed = apply(PackWeights("float32"), apply(NarrowConvolutions(dtype), convolution()))
    [entry] = read_plan(packed["main"])
    assert [(tensor.name, tensor.dtype) for tensor in entry.tensors] == [("w", dtype)]
    narrow = W.astype(NUMPY_DTYPES[dtype])
    np.testing.assert_allclose(run(packed, X, narrow), rounded(dtype), atol=1e-5)


def test_what_is_computed_and_what_is_not_fp32_stay() -> None:
    both = module({"x": X.shape, "w": W.shape}, {}, lambda emit, x, w: relax.op.nn.conv2d(x, w))
    assert NarrowConvolutions("float16").apply(both).matches == 0
    assert NarrowConvolutions("float32").apply(convolution(W)).matches == 0


def test_a_weight_beyond_fp16_is_refused() -> None:
    large = convolution(np.full(W.shape, 7e4, np.float32))
    with pytest.raises(PassError, match="holds 70000, fp16 ends at 65504; compile with --dtype"):
        NarrowConvolutions("float16").apply(large)
    assert "tvm_vacc.widen" in op_names(NarrowConvolutions("bfloat16").apply(large).module)
    assert run(NarrowConvolutions("bfloat16").apply(large).module, X).dtype == np.float32
