from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.ops.harness import to_numpy, to_tvm
from tests.relay_passes.build import module

ONE_PIXEL = relax.op.nn.conv2d, (1, 4, 8, 8), (4, 1, 1, 1), {"groups": 4}
ONE_KEY = relax.op.matmul, (2, 1, 1), (2, 1, 3), {}


@pytest.mark.parametrize(("op", "x", "w", "attributes"), [ONE_PIXEL, ONE_KEY])
def test_sums_of_one_element_compile(
    op: Any, x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, int]
) -> None:
    """TVM's rule takes them for products with a vector, and trips over the missing axis."""
    graph = module({"x": x, "w": w}, {}, lambda emit, x, w: op(x, w, **attributes))
    machine = relax.VirtualMachine(tvm.compile(graph, target="tvm_vacc"), tvm.cpu())
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal(shape, dtype=np.float32) for shape in (x, w))
    want = left @ right if op is relax.op.matmul else left * right.reshape(1, 4, 1, 1)
    got = to_numpy(machine["main"](to_tvm(left), to_tvm(right)))
    np.testing.assert_allclose(got, want, rtol=1e-6)
