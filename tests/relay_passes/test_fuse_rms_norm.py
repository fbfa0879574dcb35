from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.fuse_rms_norm import FuseRmsNorm
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, run_main

HIDDEN = 24
EPS = 1e-5


def norm(
    form: str = "rsqrt",
    axis: int = -1,
    other: bool = False,
    keepdims: bool = True,
    weight_dtype: str = "float32",
    weight: str = "hidden",
) -> ir.IRModule:
    """An RMSNorm spelt out, with one detail changed."""

    def body(emit: Any, x: relax.Var, y: relax.Var, w: relax.Var) -> relax.Expr:
        if weight_dtype != "float32":
            w = emit(relax.op.astype(w, "float32"))
        base = y if other else x
        square = (
            relax.op.power(base, relax.const(2.0)) if form == "div" else relax.op.multiply(x, base)
        )
        mean = emit(relax.op.mean(emit(square), axis, keepdims=keepdims))
        shifted = emit(relax.op.add(relax.const(EPS), mean))
        if form == "div":
            normed = relax.op.divide(x, emit(relax.op.sqrt(shifted)))
        elif form == "reciprocal":
            root = emit(relax.op.sqrt(shifted))
            normed = relax.op.multiply(emit(relax.op.divide(relax.const(1.0), root)), x)
        else:
            normed = relax.op.multiply(x, emit(relax.op.rsqrt(shifted)))
        return relax.op.multiply(w, emit(normed))

    shape = [2, HIDDEN, HIDDEN]
    return module(
        {"x": shape, "y": shape},
        {"w": [HIDDEN] if weight == "hidden" else [1]},
        body,
        {"w": weight_dtype},
    )


@pytest.mark.parametrize("form", ["rsqrt", "div", "reciprocal"])
@pytest.mark.parametrize("weight_dtype", ["float32", "float16"])
def test_fuses_and_keeps_the_value(form: str, weight_dtype: str) -> None:
    original = norm(form, weight_dtype=weight_dtype)
    result = FuseRmsNorm().apply(apply(Canonicalize(), original))
    assert result.matches == 1
    rng = np.random.default_rng(0)
    values = {
        "x": rng.standard_normal((2, HIDDEN, HIDDEN), dtype=np.float32),
        "y": np.zeros((2, HIDDEN, HIDDEN), np.float32),
        "w": rng.standard_normal(HIDDEN).astype(weight_dtype),
    }
    mean = np.mean(values["x"] ** 2, -1, keepdims=True)
    want = values["x"] / np.sqrt(mean + EPS) * values["w"].astype(np.float32)
    np.testing.assert_allclose(run_main(result.module, values)[0], want, atol=1e-5)


@pytest.mark.parametrize(
    "near_miss",
    [{"axis": 1}, {"axis": 0}, {"other": True}, {"weight": "one"}],
    ids=lambda change: next(iter(change)) + str(next(iter(change.values()))),
)
def test_near_misses_stay(near_miss: dict[str, Any]) -> None:
    canonical = apply(Canonicalize(), norm(**near_miss))
    assert FuseRmsNorm().apply(canonical).matches == 0


def test_weight_that_is_an_input_stays() -> None:
    batch = dim("batch")

    def body(emit: Any, x: relax.Var, w: relax.Var) -> relax.Expr:
        return relax.op.nn.rms_norm(x, w, [-1], EPS)

    as_input = module({"x": [batch, HIDDEN], "w": [HIDDEN]}, {}, body)
    as_weight = module({"x": [batch, HIDDEN]}, {"w": [HIDDEN]}, body)
    assert FuseRmsNorm().apply(as_input).matches == 0
    assert FuseRmsNorm().apply(as_weight).matches == 1
