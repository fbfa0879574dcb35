from __future__ import annotations

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.count_ops import count_ops
from relay_passes.fuse_dequantize import FuseDequantize
from relay_passes.pack_weights import PackWeights
from relay_passes.weight_plan import Quantized, Source, read_plan
from tests.relay_passes.running import apply, run_main
from tvm_vacc import ops

FLOATS = {"axis": 0, "block_size": 0, "dtype": "float32", "bits": 8}


def product(
    x_dtype: str, zero: int | None = None, weight_zero: int = 0, *, bias_first: bool = False
) -> ir.IRModule:
    """``main`` is a product of `x` with codes ``[5, 17]``, and a bias."""
    x = relax.Var("x", relax.TensorType((3, 17), x_dtype))
    codes = relax.Var("codes", relax.TensorType((5, 17), "int8"))
    scale = relax.Var("scale", relax.TensorType((5,), "float32"))
    bias = relax.Var("bias", relax.TensorType((5,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, codes, scale, bias], attrs={"num_input": 1}):
        with builder.dataflow():
            left: relax.Expr = x
            if zero is not None:
                point = relax.const(np.array(zero, x_dtype))
                step = relax.const(np.float32(0.5))
                left = builder.emit(ops.dequantize(x, step, point, **FLOATS))
            zeros = relax.const(np.full(5, weight_zero, np.int8))
            weight = builder.emit(ops.dequantize(codes, scale, zeros, **FLOATS))
            right = builder.emit(relax.op.permute_dims(weight, [1, 0]))
            result = builder.emit(relax.op.matmul(left, right))
            terms = (bias, result) if bias_first else (result, bias)
            out = builder.emit_output(relax.op.add(*terms))
        builder.emit_func_output(out)
    return builder.get()


@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize(
    ("x_dtype", "zero", "scheme"),
    [("float32", None, "w8a16"), ("uint8", 131, "w8a8"), ("int8", -3, "w8a8")],
)
def test_codes_reach_the_operator_and_the_plan(
    x_dtype: str, zero: int | None, scheme: str, bias_first: bool
) -> None:
    module = product(x_dtype, zero, bias_first=bias_first)
    result = FuseDequantize().apply(module)
    assert (result.matches, result.note) == (1, "")
    assert count_ops(result.module) == {"quantized_linear": 1}
    [entry] = read_plan(result.module["main"])
    assert entry.quantized == Quantized("stored", scheme, 17)
    assert (entry.sources, entry.scales) == ((Source("codes"),), (Source("scale"),))
    assert entry.kind == "head"
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (3, 17)).astype(x_dtype)
    codes = rng.integers(-128, 128, (5, 17)).astype(np.int8)
    scale, bias = rng.uniform(0.1, 1, (2, 5)).astype(np.float32)
    floats = x.astype(float) if zero is None else (x.astype(float) - zero) * 0.5
    made = {f"codes.{scheme}.codes": codes, f"codes.{scheme}.scales": scale[:, None].copy()}
    [got] = run_main(apply(FuseDequantize(), module), {"x": x, "bias": bias, **made})
    np.testing.assert_allclose(got, floats @ (codes.T * scale) + bias, rtol=1e-5, atol=1e-3)
    packed = PackWeights("float32").apply(result.module)
    assert count_ops(packed.module) == {"packed_quantized_linear": 1}
    plan = {entry.name: entry for entry in read_plan(packed.module["main"])}
    assert len(plan["codes"].tensors) == (3 if scheme == "w8a8" else 2)


def test_zero_points_of_weights_are_left_and_named() -> None:
    module = product("float32", weight_zero=1)
    result = FuseDequantize().apply(module)
    assert result.matches == 0
    assert result.note == "dequantised to floats: codes (it has zero points)"
    assert count_ops(result.module) == {"dequantize": 1}
