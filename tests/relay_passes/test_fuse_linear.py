from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.fuse_linear import FuseLinear
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, op_names, run_main

IN, OUT = 10, 14


def projection(
    transposed: bool = True,
    dtype: str = "float32",
    bias: str = "vector",
    flat: bool = False,
    weight_is_input: bool = False,
) -> ir.IRModule:
    batch, seq = dim("batch"), dim("seq")

    def body(emit: Any, x: relax.Var, w: relax.Var, b: relax.Var) -> relax.Expr:
        if dtype != "float32":
            w = emit(relax.op.astype(w, "float32"))
        if transposed:
            w = emit(relax.op.permute_dims(w, [1, 0]))
        if flat:
            x = emit(relax.op.reshape(x, [batch * seq, IN]))
        y = emit(relax.op.matmul(x, w))
        y = emit(relax.op.add(y, b)) if bias != "none" else y
        return relax.op.reshape(y, [batch, seq, 2, OUT // 2]) if flat else y

    shapes = {
        "x": [batch, seq, IN],
        "w": [OUT, IN] if transposed else [IN, OUT],
        "b": [1, OUT] if bias == "row" else [OUT],
    }
    inputs = ["x", "w"] if weight_is_input else ["x"]
    return module(
        {name: shapes[name] for name in inputs},
        {name: shapes[name] for name in shapes if name not in inputs},
        body,
        {"w": dtype},
    )


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("flat", [True, False])
def test_fuses_with_bias_and_keeps_the_value(transposed: bool, dtype: str, flat: bool) -> None:
    original = projection(transposed, dtype, flat=flat)
    result = FuseLinear().apply(apply(Canonicalize(), original))
    assert result.matches == 1
    assert not op_names(result.module) & {"matmul", "add", "astype"}
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, IN), dtype=np.float32)
    w = rng.standard_normal((OUT, IN)).astype(dtype)
    b = rng.standard_normal(OUT, dtype=np.float32)
    want = x @ w.astype(np.float32).T + b
    got = run_main(result.module, {"x": x, "w": w if transposed else w.T.copy(), "b": b})[0]
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=1e-4)


def test_without_bias() -> None:
    result = FuseLinear().apply(apply(Canonicalize(), projection(bias="none")))
    assert result.matches == 1


def test_product_of_activations_stays() -> None:
    result = FuseLinear().apply(apply(Canonicalize(), projection(weight_is_input=True)))
    assert result.matches == 0


def test_bias_of_another_shape_stays_an_addition() -> None:
    result = FuseLinear().apply(apply(Canonicalize(), projection(bias="row")))
    assert result.matches == 1
    assert "add" in op_names(result.module)
