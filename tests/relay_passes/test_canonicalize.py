from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from relay_passes.canonicalize import Canonicalize
from tests.relay_passes.build import dim, module
from tests.relay_passes.running import apply, op_names, run_main

N = 6


def const(number: float) -> relax.Expr:
    return relax.const(number, "float32")


CASES: dict[str, tuple[Any, set[str]]] = {
    "unsqueeze and squeeze": (
        lambda emit, x: relax.op.squeeze(emit(relax.op.expand_dims(x, [0, 3])), [0, 3]),
        set(),
    ),
    "one reshape": (
        lambda emit, x: relax.op.reshape(emit(relax.op.reshape(x, [N, 4])), [2, 2 * N]),
        {"reshape"},
    ),
    "transposes cancel": (
        lambda emit, x: relax.op.permute_dims(emit(relax.op.permute_dims(x)), [1, 0]),
        set(),
    ),
    "split": (
        lambda emit, x: relax.TupleGetItem(emit(relax.op.split(x, [2], axis=-1)), 1),
        {"strided_slice"},
    ),
    "stack": (lambda emit, x: relax.op.stack([x, x], axis=-1), {"reshape", "concat"}),
    "neutral": (
        lambda emit, x: relax.op.add(emit(relax.op.multiply(const(1), x)), const(0)),
        set(),
    ),
    "square": (lambda emit, x: relax.op.power(x, const(2)), {"multiply"}),
    "cube": (lambda emit, x: relax.op.power(x, const(3)), {"power"}),
    "silu": (lambda emit, x: relax.op.multiply(emit(relax.op.sigmoid(x)), x), {"nn.silu"}),
    "whole slice": (lambda emit, x: relax.op.strided_slice(x, [1], [0], [N], [1]), set()),
    "every second": (
        lambda emit, x: relax.op.strided_slice(x, [1], [0], [N], [2]),
        {"strided_slice"},
    ),
    "broadcasting neutral": (
        lambda emit, x: relax.op.multiply(x, relax.const(np.ones((3, 4, N), np.float32))),
        {"multiply"},
    ),
    "outer product": (
        lambda emit, x: relax.op.matmul(
            emit(relax.op.reshape(x, [4 * N, 1])), emit(relax.op.reshape(x, [1, 4 * N]))
        ),
        {"multiply", "reshape"},
    ),
    "reciprocal root": (
        lambda emit, x: relax.op.divide(
            const(1), emit(relax.op.sqrt(emit(relax.op.multiply(x, x))))
        ),
        {"multiply", "rsqrt"},
    ),
    "constants fold": (
        lambda emit, x: relax.op.multiply(x, emit(relax.op.sqrt(const(4)))),
        {"multiply"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_form_and_value(case: str) -> None:
    build, names = CASES[case]
    original = module({"x": [4, N]}, {}, lambda emit, x: emit(build(emit, x)))
    canonical = apply(Canonicalize(), original)
    assert op_names(canonical) == names
    x = np.random.default_rng(0).uniform(0.5, 2, (4, N)).astype(np.float32)
    want, got = run_main(original, {"x": x})[0], run_main(canonical, {"x": x})[0]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_flattened_gemm_works_on_three_dimensions() -> None:
    batch, seq = dim("batch"), dim("seq")

    def body(emit: Any, x: relax.Var, w: relax.Var, b: relax.Var) -> relax.Expr:
        flat = emit(relax.op.reshape(x, [batch * seq, N]))
        product = emit(relax.op.add(emit(relax.op.matmul(flat, w)), b))
        return relax.op.reshape(product, [batch, seq, 8])

    canonical = apply(Canonicalize(), module({"x": [batch, seq, N]}, {"w": [N, 8], "b": [8]}, body))
    assert op_names(canonical) == {"matmul", "add"}


def test_weights_stay_parameters() -> None:
    def body(emit: Any, x: relax.Var, w: relax.Var) -> relax.Expr:
        return relax.op.matmul(x, emit(relax.op.permute_dims(w, [1, 0])))

    canonical = apply(Canonicalize(), module({"x": [4, N]}, {"w": [8, N]}, body))
    assert op_names(canonical) == {"matmul", "permute_dims"}
    assert [param.name for param in canonical["main"].params] == ["x", "w"]


def test_equal_subexpressions_are_computed_once() -> None:
    def body(emit: Any, x: relax.Var) -> relax.Expr:
        return relax.op.add(emit(relax.op.cos(x)), emit(relax.op.cos(x)))

    canonical = apply(Canonicalize(), module({"x": [4, N]}, {}, body))
    assert len(canonical["main"].body.blocks[0].bindings) == 3  # cos, add, the output
