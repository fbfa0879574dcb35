"""Scratch memory stays a buffer's own as long as the buffer is used."""

from __future__ import annotations

import numpy as np
import tvm
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.scratch import scratch
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel


def test_two_buffers_of_one_dtype_are_two() -> None:
    """TVM lets buffers that are not in use at a time share memory; these are."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("two")
        x_handle, out_handle = T.arg("x", T.handle()), T.arg("out", T.handle())
        tokens = T.int64()
        x = T.match_buffer(x_handle, (tokens, 7), "int32")
        out = T.match_buffer(out_handle, (tokens, 7), "int32")
        first, second = scratch((tokens, 7), "int32"), scratch((tokens, 9), "int32")
        with T.serial(0, tokens) as token, T.serial(0, 7) as k:
            T.buffer_store(first, x[token, k] * 3, [token, k])
        with T.serial(0, tokens) as token, T.serial(0, 9) as k:
            T.buffer_store(second, -1, [token, k])
        with T.serial(0, tokens) as token, T.serial(0, 7) as k:
            T.buffer_store(out, first[token, k] + second[token, k + 2], [token, k])
    kernel = build_kernel(builder.get(), HOST_TARGETS["native"])
    x_values = np.arange(35, dtype=np.int32).reshape(5, 7)
    out_values = tvm.runtime.empty((5, 7), "int32")
    kernel(tvm.runtime.tensor(x_values), out_values)
    np.testing.assert_array_equal(out_values.numpy(), 3 * x_values - 1)
