from __future__ import annotations

import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.opaque import opaque
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel


def _kernel() -> tirx.PrimFunc:
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("products")
        x_handle, out_handle = T.arg("x", T.handle()), T.arg("out", T.handle())
        tokens = T.int64()
        x = T.match_buffer(x_handle, (tokens,), "int64")
        out = T.match_buffer(out_handle, (tokens,), "int64")
        with T.parallel(0, tokens) as token:
            third = opaque(token // 3)
            T.buffer_store(out, x[token] * opaque(third + tokens) + third, [token])
    return builder.get()


def test_values_are_those_of_the_expressions() -> None:
    x = np.arange(11, dtype=np.int64) + 5
    out = tvm.runtime.tensor(np.zeros(11, np.int64))
    build_kernel(_kernel(), HOST_TARGETS["native"])(tvm.runtime.tensor(x), out)
    third = np.arange(11) // 3
    np.testing.assert_array_equal(out.numpy(), x * (third + 11) + third)


def test_the_simplifier_does_not_put_expressions_in_the_place_of_variables() -> None:
    simplified = tirx.transform.StmtSimplify()(tvm.IRModule({"main": _kernel()}))
    assert simplified["main"].script().count("// T.int64(3)") == 1
