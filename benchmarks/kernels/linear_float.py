"""Speed of the floating-point linear kernel against the machine's limits in the same run.

    python -m benchmarks.kernels.linear_float [--mcpu znver4] [--threads 2]

Decoding is compared with the bandwidth of reading memory, prefill with the peak of fused
multiply-add, both measured by small kernels of this file between the repetitions of what they are
compared with: on a busy machine only such ratios count. With one thread the clock is that of the
thread, which stands still while other processes have the core.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import isa_of
from schedules.linear_float import linear_kernel, packed_shape

READ_ROW = 1 << 18
"""fp32 values a task of the read kernel adds up: 1 MiB."""

READ_ROWS = 32
"""Rows read a time: 32 MiB, some milliseconds, as long as the kernels that are compared."""

COLD_BYTES = 192 << 20
"""Buffers are used in turn until this much was read, so that none is still in a cache."""

MULTIPLY_ADDS = 1 << 18
"""Steps of the peak kernel, each one operation on all its registers: about a millisecond."""

REGISTERS = 12
"""Independent sums of both kernels: enough to hide the latency of an addition."""


def read_kernel(lanes: int) -> tirx.PrimFunc:
    """Kernel ``(data [rows, READ_ROW], out [rows, lanes])``: adds up everything."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("read")
        T.func_attr({"tirx.noalias": True})
        data, out = T.arg("data", T.handle()), T.arg("out", T.handle())
        rows = T.int64()
        values = T.match_buffer(data, (rows, READ_ROW), "float32")
        result = T.match_buffer(out, (rows, lanes), "float32")
        every = T.ramp(0, 1, lanes)
        with T.parallel(0, rows) as row:
            sums = [T.alloc_buffer((lanes,), "float32", scope="local") for _ in range(8)]
            for total in sums:
                T.buffer_store(total, T.broadcast(T.float32(0), lanes), [every])
            with T.serial(0, READ_ROW // (8 * lanes)) as i:
                for j, total in enumerate(sums):
                    value = values[row, T.ramp((i * 8 + j) * lanes, 1, lanes)]
                    T.buffer_store(total, total[every] + value, [every])
            for total in sums[1:]:
                T.buffer_store(sums[0], sums[0][every] + total[every], [every])
            T.buffer_store(result, sums[0][every], [row, every])
    return builder.get()


def multiply_add_kernel(lanes: int) -> tirx.PrimFunc:
    """Kernel ``(data [rows, lanes], out [rows, lanes])``: chains of multiply-add in registers."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("multiply_add")
        T.func_attr({"tirx.noalias": True})
        data, out = T.arg("data", T.handle()), T.arg("out", T.handle())
        rows = T.int64()
        values = T.match_buffer(data, (rows, lanes), "float32")
        result = T.match_buffer(out, (rows, lanes), "float32")
        every = T.ramp(0, 1, lanes)
        with T.parallel(0, rows) as row:
            sums = [T.alloc_buffer((lanes,), "float32", scope="local") for _ in range(REGISTERS)]
            for i, total in enumerate(sums):
                T.buffer_store(total, T.broadcast(T.float32(i), lanes), [every])
            value = T.bind(values[row, every])
            with T.serial(0, MULTIPLY_ADDS):
                for total in sums:
                    T.buffer_store(total, total[every] * value + value, [every])
            for total in sums[1:]:
                T.buffer_store(sums[0], sums[0][every] + total[every], [every])
            T.buffer_store(result, sums[0][every], [row, every])
    return builder.get()


def compile_kernel(kernel: tirx.PrimFunc, target: tvm.target.Target) -> Any:
    """Compile one kernel to a function of tensors."""
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    return tvm.compile(module, target=target)["main"]


def stored(shape: tuple[int, ...], dtype: str) -> tvm.runtime.Tensor:
    """Return a tensor of small normal numbers; a product with them is never subnormal."""
    values = np.random.default_rng(0).uniform(0.25, 0.5, shape).astype(np.float32)
    tensor = tvm.runtime.empty(shape, dtype)
    tensor.copyfrom(values.astype(numpy_dtype(dtype)))
    return tensor


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


@dataclass(frozen=True)
class Bench:
    """One machine, one target, one number of threads."""

    target: tvm.target.Target
    threads: int

    def seconds(self, function: Callable[[], None]) -> float:
        clock = time.thread_time if self.threads == 1 else time.perf_counter
        start = clock()
        function()
        return clock() - start

    def reader(self) -> Callable[[], float]:
        """Return a function that reads memory once and returns GB/s."""
        lanes = isa_of(self.target).lanes
        function = compile_kernel(read_kernel(lanes), self.target)
        row_bytes = READ_ROWS * READ_ROW * 4
        buffers = cycle(
            stored((READ_ROWS, READ_ROW), "float32") for _ in range(COLD_BYTES // row_bytes)
        )
        out = tvm.runtime.empty((READ_ROWS, lanes), "float32")
        return lambda: row_bytes / self.seconds(lambda: function(next(buffers), out)) / 1e9

    def multiplier(self) -> Callable[[], float]:
        """Return a function that multiplies and adds, and returns GFLOPS."""
        lanes = isa_of(self.target).lanes
        function = compile_kernel(multiply_add_kernel(lanes), self.target)
        values = stored((self.threads, lanes), "float32")
        out = tvm.runtime.empty((self.threads, lanes), "float32")
        flops = 2.0 * self.threads * lanes * REGISTERS * MULTIPLY_ADDS
        return lambda: flops / self.seconds(lambda: function(values, out)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mcpu", default="znver4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--dtypes", default="float16,bfloat16,float32")
    parser.add_argument("--tokens", default="1,4,8,512")
    args = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(args.threads)
    bench = Bench(tvm.target.Target({"kind": "llvm", "mcpu": args.mcpu}), args.threads)
    read, multiply = bench.reader(), bench.multiplier()
    for in_features, out_features in ((4096, 4096), (13696, 4096)):
        for dtype in args.dtypes.split(","):
            kernel = linear_kernel(
                in_features, out_features, dtype, isa_of(bench.target), bias_dtype=None
            )
            start = time.process_time()
            function = compile_kernel(kernel, bench.target)
            print(f"{in_features} -> {out_features} {dtype}, compiled in ", end="")
            print(f"{time.process_time() - start:.2f} s of CPU time")
            shape = packed_shape(out_features, in_features)
            weight_bytes = in_features * out_features * numpy_dtype(dtype).itemsize
            weights = cycle(stored(shape, dtype) for _ in range(-(-COLD_BYTES // weight_bytes)))
            for tokens in (int(count) for count in args.tokens.split(",")):
                x = stored((tokens, in_features), "float32")
                out = tvm.runtime.empty((tokens, out_features), "float32")
                best, bandwidth, peak = float("inf"), 0.0, 0.0
                for _ in range(args.repeats):
                    weight = next(weights)
                    best = min(best, bench.seconds(partial(function, x, weight, out)))
                    bandwidth, peak = max(bandwidth, read()), max(peak, multiply())
                reached = weight_bytes / best / 1e9
                gflops = 2.0 * tokens * in_features * out_features / best / 1e9
                print(
                    f"  {tokens:>4} tokens: {reached:5.1f} GB/s of weights, "
                    f"{reached / bandwidth:.2f} of {bandwidth:.1f}; "
                    f"{gflops:6.1f} GFLOPS, {gflops / peak:.2f} of {peak:.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
