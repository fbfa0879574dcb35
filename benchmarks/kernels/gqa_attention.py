"""Speed of the attention kernel as a fraction of the limits measured in the same run.

    python -m benchmarks.kernels.gqa_attention [--heads 32 --kv-heads 2 --head-dim 128]

Decode and causal prefill of one sequence. The limits are an fp32 multiply-add loop and a reading
loop, both over all threads; everything is interleaved and the best of the rounds counts, since
other work on the machine can only slow a round down.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.gqa_attention import gqa_attention_kernel
from schedules.isa import isa_of
from schedules.kv_cache import key_cache_shape, value_cache_shape
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.runtime.tensors import to_tvm

LANES = 16
FMA_CHAINS = 12
FMA_STEPS = 1 << 16
READ_BYTES = 256 << 20
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def fma_kernel(threads: int) -> tirx.PrimFunc:
    """``out[thread]``: independent chains of vector multiply-adds, all in registers."""
    with IRBuilder() as builder, T.prim_func():
        T.func_name("fma")
        out = T.match_buffer(T.arg("out", T.handle()), (threads, LANES), "float32")
        lanes = T.ramp(0, 1, LANES)
        with T.parallel(0, threads) as thread:
            chains = [T.alloc_buffer((LANES,), "float32") for _ in range(FMA_CHAINS)]
            for chain in chains:
                T.buffer_store(chain, out[thread, lanes], [lanes])
            factor = T.bind(out[thread, lanes])
            with T.serial(0, FMA_STEPS):
                for chain in chains:
                    T.buffer_store(chain, chain[lanes] * factor + factor, [lanes])
            for chain in chains:
                T.buffer_store(out, out[thread, lanes] + chain[lanes], [thread, lanes])
    return builder.get()


def read_kernel(threads: int) -> tirx.PrimFunc:
    """``out[thread]``: sum of the thread's part of a buffer larger than any cache."""
    count = READ_BYTES // 4 // threads // (4 * LANES) * 4 * LANES
    with IRBuilder() as builder, T.prim_func():
        T.func_name("read")
        data = T.match_buffer(T.arg("data", T.handle()), (threads, count), "int32")
        out = T.match_buffer(T.arg("out", T.handle()), (threads, LANES), "int32")
        with T.parallel(0, threads) as thread:
            sums = [T.alloc_buffer((LANES,), "int32") for _ in range(4)]
            lanes = T.ramp(0, 1, LANES)
            for total in sums:
                T.buffer_store(total, T.broadcast(T.int32(0), LANES), [lanes])
            with T.serial(0, count // (4 * LANES)) as i:
                for j, total in enumerate(sums):
                    part = data[thread, T.ramp((i * 4 + j) * LANES, 1, LANES)]
                    T.buffer_store(total, total[lanes] + part, [lanes])
            for total in sums:
                T.buffer_store(out, out[thread, lanes] + total[lanes], [thread, lanes])
    return builder.get()


def build(kernel: tirx.PrimFunc, target: tvm.target.Target) -> Callable[..., None]:
    """Compile one kernel and return it as a function of tensors."""
    module = tvm.IRModule({"kernel": kernel.with_attr("global_symbol", "kernel")})
    return tvm.compile(module, target=target)["kernel"]


def attention_case(
    kernel: Callable[..., None], args: argparse.Namespace, dtype: str, new: int, context: int
) -> Callable[[], None]:
    """Return a call of `kernel` with `new` tokens at the end of `context` positions."""
    rng = np.random.default_rng(0)
    pages = -(-context // PAGE_SIZE)
    arrays = [
        rng.standard_normal((new, args.heads, args.head_dim), dtype=np.float32),
        *(
            rng.standard_normal(
                shape(pages, args.kv_heads, args.head_dim), dtype=np.float32
            ).astype(DTYPES[dtype])
            for shape in (key_cache_shape, value_cache_shape)
        ),
        rng.permutation(pages)[None].astype(np.int32),
        np.array([0, new], np.int32),
        np.array([context], np.int32),
        np.zeros((new, args.heads, args.head_dim), np.float32),
    ]
    tensors = [to_tvm(array) for array in arrays]
    return lambda: kernel(*tensors)


def seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--mcpu", default="", help="LLVM's name of the CPU; default: this one")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    mcpu = args.mcpu or tvm.target.codegen.llvm_get_system_cpu()
    target = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    threads = tvm.runtime.num_threads()

    fma_out = to_tvm(np.full((threads, LANES), 1e-3, np.float32))
    fma = build(fma_kernel(threads), target)
    read = build(read_kernel(threads), target)
    count = READ_BYTES // 4 // threads // (4 * LANES) * 4 * LANES
    data = to_tvm(np.ones((threads, count), np.int32))
    read_out = to_tvm(np.zeros((threads, LANES), np.int32))
    calls: dict[str, Callable[[], None]] = {
        "fma": lambda: fma(fma_out),
        "read": lambda: read(data, read_out),
    }
    for dtype in DTYPES:
        shape = (args.heads, args.kv_heads, args.head_dim, dtype, args.head_dim**-0.5)
        kernel = build(gqa_attention_kernel(*shape, isa_of(target)), target)
        for new in (1, args.context):
            name = f"{'decode' if new == 1 else 'prefill'} {dtype}"
            calls[name] = attention_case(kernel, args, dtype, new, args.context)

    best = {name: float("inf") for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            repeats = 20 if name == "fma" or name.startswith("decode") else 1
            best[name] = min([best[name], *(seconds(call) for _ in range(repeats))])

    flops = 2 * LANES * FMA_CHAINS * FMA_STEPS * threads / best["fma"]
    bandwidth = READ_BYTES / best["read"]
    print(f"{mcpu}, {threads} threads: {flops / 1e9:.0f} GFLOPS fp32, {bandwidth / 1e9:.1f} GB/s")
    for name, duration in best.items():
        if name in ("fma", "read"):
            continue
        new = 1 if name.startswith("decode") else args.context
        pairs = new * args.context - new * (new - 1) // 2
        work = 4 * pairs * args.heads * args.head_dim
        itemsize = np.dtype(DTYPES[name.split()[1]]).itemsize
        cache = 2 * args.context * args.kv_heads * args.head_dim * itemsize
        limit = max(work / flops, cache / bandwidth)
        print(
            f"{name:18} {duration * 1e6:9.1f} us  {work / duration / 1e9:6.0f} GFLOPS  "
            f"{cache / duration / 1e9:5.1f} GB/s  {limit / duration:.2f} of the limit"
        )


if __name__ == "__main__":
    main()
