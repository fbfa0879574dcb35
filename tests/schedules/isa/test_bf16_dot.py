"""The bf16 instructions against ml_dtypes and NumPy, in every form of an artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import isa_of
from schedules.isa.bf16_dot import bf16_dot, bf16_instructions, round_to_bf16, round_two_to_bf16
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel

needs_bf16 = pytest.mark.skipif(
    not isa_of(HOST_TARGETS["native"]).dots_bf16, reason="this CPU has no bf16 dot products"
)
EVERY = T.ramp(0, 1, 16)


def kernel(arguments: list[tuple[int, str]], body: Callable[..., Any]) -> tirx.PrimFunc:
    """Kernel over vectors of the given (length, dtype); `body` stores into the last one."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("kernel")
        T.func_attr({"tirx.noalias": True})
        handles = [T.arg(f"arg{i}", T.handle()) for i in range(len(arguments))]
        buffers = [
            T.match_buffer(handle, (length,), dtype)
            for handle, (length, dtype) in zip(handles, arguments, strict=True)
        ]
        with bf16_instructions(16):
            body(*buffers)
    return builder.get()


def dot_kernel() -> tirx.PrimFunc:
    def body(sums: Any, left: Any, right: Any, out: Any) -> None:
        T.buffer_store(out, bf16_dot(sums[EVERY], left[EVERY], right[EVERY]), [EVERY])

    return kernel([(16, "float32"), (16, "int32"), (16, "int32"), (16, "float32")], body)


def run(function: Callable[..., None], *arrays: np.ndarray, out: tuple[int, str]) -> np.ndarray:
    result = tvm.runtime.empty((out[0],), out[1])
    function(*(tvm.runtime.tensor(array) for array in arrays), result)
    return result.numpy()


def dot_arguments() -> tuple[list[np.ndarray], np.ndarray]:
    """Return arguments of the dot product, and what it must give."""
    rng = np.random.default_rng(0)
    sums = rng.standard_normal(16, dtype=np.float32)
    left, right = rng.standard_normal((2, 16, 2), dtype=np.float32).astype(ml_dtypes.bfloat16)
    want = sums + (left.astype(np.float32) * right.astype(np.float32)).sum(axis=1)
    return [sums, left.view(np.int32)[:, 0], right.view(np.int32)[:, 0]], want


@needs_bf16
def test_dot_adds_the_products_of_pairs() -> None:
    arguments, want = dot_arguments()
    got = run(build_kernel(dot_kernel(), HOST_TARGETS["native"]), *arguments, out=(16, "float32"))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def hard_values() -> np.ndarray:
    """Return normal fp32 that are hard to round: ties to even and to odd, huge, infinite, tiny."""
    rng = np.random.default_rng(1)
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF], np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, 1e38, -(2.0**-120)], np.float32)
    rest = rng.standard_normal(21, dtype=np.float32)
    return np.concatenate([ties.view(np.float32), special, rest])


@needs_bf16
def test_rounds_to_nearest_even() -> None:
    def body(x: Any, out: Any) -> None:
        T.buffer_store(out, round_to_bf16(x[EVERY]), [EVERY])

    function = build_kernel(kernel([(16, "float32"), (16, "int16")], body), HOST_TARGETS["native"])
    for x in np.split(hard_values(), 2):
        want = x.astype(ml_dtypes.bfloat16).view(np.int16)
        np.testing.assert_array_equal(run(function, x, out=(16, "int16")), want)


@needs_bf16
def test_rounds_two_vectors_in_order() -> None:
    def body(x: Any, out: Any) -> None:
        T.buffer_store(out, round_two_to_bf16(x[EVERY], x[T.ramp(16, 1, 16)]), [EVERY])

    function = build_kernel(kernel([(32, "float32"), (16, "int32")], body), HOST_TARGETS["native"])
    x = hard_values()
    want = x.astype(ml_dtypes.bfloat16).view(np.int32)
    np.testing.assert_array_equal(run(function, x, out=(16, "int32")), want)


def test_each_is_one_instruction() -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": "znver4"})

    def body(x: Any, low: Any, out: Any) -> None:
        T.buffer_store(low, round_to_bf16(x[EVERY]), [EVERY])
        pairs = round_two_to_bf16(x[EVERY], x[T.ramp(16, 1, 16)])
        T.buffer_store(out, bf16_dot(out[EVERY], pairs, pairs), [EVERY])

    functions = {
        name: kernel([(32, "float32"), (16, "int16"), (16, "float32")], body).with_attr(
            "global_symbol", name
        )
        for name in ("first", "second")  # each imports the helpers
    }
    asm = tvm.compile(tvm.IRModule(functions), target=target).mod.inspect_source("asm")
    for instruction in ("vdpbf16ps", "vcvtneps2bf16", "vcvtne2ps2bf16"):
        assert asm.count(f"\t{instruction}\t") == 2
    assert "call" not in [line.split()[0] for line in asm.splitlines() if "tvm_vacc_bf16" in line]


@needs_bf16
@pytest.mark.parametrize("compiler", [True, False], ids=["so", "ll"])
def test_in_a_stored_artefact(tmp_path: Path, compiler: bool) -> None:
    from tvm_vacc.codegen import kernels
    from tvm_vacc.codegen.linker import NONE, find_linker
    from tvm_vacc.runtime.executable import load_executable
    from tvm_vacc.target import triple_of

    arguments, want = dot_arguments()
    builder = relax.BlockBuilder()
    params = [
        relax.Var(f"arg{i}", relax.TensorType(array.shape, str(array.dtype)))
        for i, array in enumerate(arguments)
    ]
    with builder.function("main", params):
        dot = builder.add_func(dot_kernel(), "dot")
        out = relax.TensorType((16,), "float32")
        builder.emit_func_output(builder.emit(relax.call_tir(dot, params, out_ty=out)))
    target = tvm.target.Target({"tag": "tvm_vacc", "mcpu": HOST_TARGETS["native"].attrs["mcpu"]})
    linker = find_linker(triple_of(target), None if compiler else NONE)
    built = kernels.build_kernels(builder.get(), target)
    files = kernels.store_kernels(built, tmp_path, linker)
    assert ("model.so" in files) == compiler
    machine = load_executable(tmp_path)
    got = machine["main"](*(tvm.runtime.tensor(array) for array in arguments)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
