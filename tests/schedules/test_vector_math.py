from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules import vector_math
from schedules.isa import isa_of
from tests.ops.harness import host_targets, target_name, to_tvm

LANES = 16


def compile_function(
    function: Callable[[Any], tirx.Expr], dtype: str, vector: bool, target: Any
) -> Any:
    """Compile ``y[i] = function(x[i])`` over ``[n, 16]``, in vectors or one by one."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name("main")
        T.func_attr({"tirx.noalias": True, "global_symbol": "main"})
        x, y = T.arg("x", T.handle()), T.arg("y", T.handle())
        rows = T.int64()
        source = T.match_buffer(x, (rows, LANES), dtype)
        result = T.match_buffer(y, (rows, LANES), "float32")
        with T.serial(0, rows) as row:
            if vector:
                every = T.ramp(0, 1, LANES)
                T.buffer_store(result, function(source[row, every]), [row, every])
            else:
                with T.serial(0, LANES) as lane:
                    T.buffer_store(result, function(source[row, lane]), [row, lane])
    return tvm.compile(tvm.IRModule({"main": builder.get()}), target=tvm.target.Target(target))


def apply(module: Any, x: np.ndarray) -> np.ndarray:
    padded = np.resize(x, (-(-len(x) // LANES), LANES))
    result = tvm.runtime.empty(padded.shape, "float32")
    module["main"](to_tvm(padded), result)
    return result.numpy().reshape(-1)[: len(x)]


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("vector", [True, False])
def test_exp(vector: bool, target: Any) -> None:
    module = compile_function(vector_math.exp, "float32", vector, target)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-87.3, 88.7, 1 << 16), rng.uniform(-1, 1, 1 << 16)])
    x = x.astype(np.float32)
    want = np.exp(x.astype(np.float64))
    assert np.max(np.abs(apply(module, x) - want) / want) < 2e-7

    subnormal = rng.uniform(-103.9, -87.4, 1 << 12).astype(np.float32)
    error = apply(module, subnormal) - np.exp(subnormal.astype(np.float64))
    assert np.max(np.abs(error)) <= 2.0**-149

    ends = np.array([0, -0.0, -np.inf, -1e30, -105, np.inf, 1e30, 89, np.nan], np.float32)
    expected = np.array([1, 1, 0, 0, 0, np.inf, np.inf, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(apply(module, ends), expected)


def test_exp_calls_no_library() -> None:
    ours = compile_function(vector_math.exp, "float32", True, "llvm")
    assert "expf" not in ours.mod.inspect_source("asm")
    stock = compile_function(T.exp, "float32", True, "llvm")
    assert "expf" in stock.mod.inspect_source("asm")  # or the line above proves nothing


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_sigmoid(target: Any) -> None:
    module = compile_function(vector_math.sigmoid, "float32", True, target)
    x = np.linspace(-80, 80, 10001, dtype=np.float32)
    want = 1 / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(apply(module, x), want, rtol=5e-7)
    ends = np.array([-np.inf, np.inf, np.nan, -1e30, 1e30], np.float32)
    np.testing.assert_array_equal(apply(module, ends), [0, 1, np.nan, 0, 1])


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_widen_is_exact_for_every_value(dtype: str, vector: bool, target: Any) -> None:
    isa = isa_of(tvm.target.Target(target))
    module = compile_function(lambda x: vector_math.widen(x, isa), dtype, vector, target)
    every = np.arange(1 << 16, dtype=np.uint16).view(np.dtype(dtype))
    np.testing.assert_array_equal(apply(module, every), every.astype(np.float32))


def test_exp_of_other_types_is_refused() -> None:
    with pytest.raises(TypeError, match="fp32"):
        vector_math.exp(tirx.const(1.0, "float64"))
