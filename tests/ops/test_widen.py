from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import ir, relax

from tests.ops.harness import to_numpy, to_tvm
from tests.relay_passes.build import module
from tvm_vacc.codegen.kernels import plan_memory
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.ops import widen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(3,), (2, 1, 5, 7)])
def test_matches_reference(dtype: str, shape: tuple[int, ...]) -> None:
    graph = module({"w": shape}, {}, lambda emit, w: widen(w), {"w": dtype})
    machine = relax.VirtualMachine(tvm.compile(graph, target="tvm_vacc"), tvm.cpu())
    weight = np.random.default_rng(0).standard_normal(shape).astype(NUMPY_DTYPES[dtype])
    got = to_numpy(machine["main"](to_tvm(weight)))
    np.testing.assert_array_equal(got, widen.reference(weight))


def test_a_constant_stays_narrow() -> None:
    weight = relax.const(np.arange(5, dtype=np.float16))
    graph = module({}, {}, lambda emit: widen(weight))
    planned = plan_memory(graph, tvm.target.Target("tvm_vacc"))["main"]
    found: list[str] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, ir.GenericConst) and isinstance(expr.ty, relax.TensorType):
            found.append(str(expr.ty.dtype))

    relax.analysis.post_order_visit(planned, visit)
    assert found == ["float16"]


def test_fp32_is_refused() -> None:
    with pytest.raises(Exception, match="fp16 or bf16"):
        module({"w": [3]}, {}, lambda emit, w: widen(w))
