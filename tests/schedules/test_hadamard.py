from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.hadamard import emit_hadamard, hadamard_reference
from schedules.registers import LANES, register, vector
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tests.schedules.paged_caches import hadamard_matrix


def transform_kernel(head_dim: int, target: str) -> Callable[..., None]:
    """Kernel ``(x [head_dim], out [head_dim])``."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_attr({"tirx.noalias": True})
        handles = [T.arg(name, T.handle()) for name in ("x", "out")]
        x, out = (T.match_buffer(handle, (head_dim,), "float32") for handle in handles)
        values = [register(x[vector(d)]) for d in range(0, head_dim, LANES)]
        emit_hadamard(values)
        for i, value in enumerate(values):
            T.buffer_store(out, value[vector(0)], [vector(i * LANES)])
    return build_kernel(builder.get(), HOST_TARGETS[target])


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("head_dim", [16, 32, 48, 80, 128, 192])
def test_is_the_matrix(head_dim: int, target: str) -> None:
    x = np.random.default_rng(head_dim).standard_normal(head_dim, dtype=np.float32)
    out = tvm.runtime.empty((head_dim,), "float32")
    transform_kernel(head_dim, target)(tvm.runtime.tensor(x), out)
    want = hadamard_matrix(head_dim).astype(np.float64) @ x
    np.testing.assert_allclose(out.numpy(), want, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(out.numpy(), hadamard_reference(x))


def test_products_of_two_rows_stay_but_for_the_factor() -> None:
    q, k = np.random.default_rng(0).standard_normal((2, 3, 96), dtype=np.float32)
    got = (hadamard_reference(q) * hadamard_reference(k)).sum(-1)
    np.testing.assert_allclose(got, 32 * (q * k).sum(-1), rtol=1e-4)
