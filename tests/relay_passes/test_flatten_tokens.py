from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import ir, relax

from relay_passes.base import NUM_CACHES, NUM_INPUT
from relay_passes.flatten_tokens import FlattenTokens
from relay_passes.rewriter import is_call
from tests.ops.harness import to_numpy, to_tvm
from tests.relay_passes.build import module
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec
from tests.relay_passes.running import apply, op_names, run_main
from tvm_vacc.codegen.kernel_pipeline import NAME

TOKENS = 21


def tensor_ranks(function: relax.Function, op_name: str) -> set[int]:
    ranks = set()

    def visit(expr: relax.Expr) -> None:
        if is_call(expr, op_name):
            ranks.add(len(expr.args[0].ty.shape))

    relax.analysis.post_order_visit(function, visit)
    return ranks


def glm_logits(glm: ir.IRModule, values: dict[str, np.ndarray]) -> np.ndarray:
    """Run `glm` on `values`; ids and positions in the rank that its parameters have."""
    machine = relax.VirtualMachine(tvm.compile(glm, target="llvm", tir_pipeline=NAME), tvm.cpu())
    arguments = [
        to_tvm(values[param.name].reshape((-1, TOKENS)[-len(param.ty.shape) :]))
        if param.name in ("input_ids", "position_ids")
        else to_tvm(values[param.name])
        for param in glm["main"].params
    ]
    return to_numpy(machine["main"](*arguments))


def values_for(glm: ir.IRModule) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values: dict[str, np.ndarray] = {
        "input_ids": rng.integers(0, tiny_spec().vocab, TOKENS),
        "position_ids": np.arange(TOKENS),
        "slots": np.arange(TOKENS, dtype=np.int32),
        "page_table": np.array([[0, 1]], np.int32),
        "query_start": np.array([0, TOKENS], np.int32),
        "kv_lens": np.array([TOKENS], np.int32),
    }
    for param in glm["main"].params:
        if param.name not in values:
            shape = [dim if isinstance(dim, int) else 2 for dim in map(_dim, param.ty.shape)]
            values[param.name] = rng.standard_normal(shape).astype(np.float32) * 0.1
    return values


def _dim(dim: object) -> object:
    return int(dim) if isinstance(dim, tvm.tirx.IntImm) else dim


def test_a_glm_loses_the_dimension_everywhere_and_keeps_its_logits() -> None:
    glm = FusedGlm(tiny_spec()).build()
    flat = apply(FlattenTokens(), glm)
    for op, rank in (("rms_norm", 2), ("linear", 2), ("rope", 3), ("swiglu", 2)):
        assert tensor_ranks(flat["main"], f"tvm_vacc.{op}") == {rank}
    assert tensor_ranks(flat["main"], "tvm_vacc.gqa_attention") == {3}
    assert tensor_ranks(flat["main"], "add") == {2}
    assert [len(param.ty.shape) for param in flat["main"].params[:2]] == [1, 1]
    assert len(flat["main"].ret_ty.shape) == 2
    for name in (NUM_INPUT, NUM_CACHES):
        assert int(flat["main"].attrs[name]) == int(glm["main"].attrs[name])
    values = values_for(glm)
    want = glm_logits(glm, values)
    np.testing.assert_array_equal(glm_logits(flat, values), want[0])


def test_an_unknown_operator_gets_its_dimension_back() -> None:
    def body(emit: object, x: relax.Var) -> relax.Expr:
        x = emit(relax.op.add(x, x))  # type: ignore[operator]
        x = emit(relax.op.cumsum(x, axis=1))  # type: ignore[operator]
        return relax.op.multiply(x, x)

    original = module({"x": [1, 3, 4]}, {}, body)
    flat = apply(FlattenTokens(), original)
    assert "cumsum" in op_names(flat)
    x = np.random.default_rng(0).standard_normal((1, 3, 4), dtype=np.float32)
    want = run_main(original, {"x": x})[0]
    np.testing.assert_array_equal(run_main(flat, {"x": x[0]})[0].reshape(want.shape), want)


@pytest.mark.parametrize("shape", [[3], [1, 1, 3]])
def test_constants_broadcast_as_before(shape: list[int]) -> None:
    table = relax.const(np.arange(3, dtype=np.float32).reshape(shape))

    def body(emit: object, x: relax.Var) -> relax.Expr:
        return relax.op.multiply(x, table)

    original = module({"x": [1, 5, 3]}, {}, body)
    flat = apply(FlattenTokens(), original)
    x = np.random.default_rng(0).standard_normal((1, 5, 3), dtype=np.float32)
    want = run_main(original, {"x": x})[0]
    np.testing.assert_array_equal(run_main(flat, {"x": x[0]})[0].reshape(want.shape), want)


def test_an_input_of_another_first_dimension_is_left_alone() -> None:
    original = module({"x": [2, 3]}, {}, lambda emit, x: relax.op.add(x, x))
    result = FlattenTokens().apply(original)
    assert result.matches == 0
    assert result.module.same_as(original)
