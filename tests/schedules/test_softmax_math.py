from __future__ import annotations

import functools

import numpy as np
import pytest
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import isa_of
from schedules.registers import LANES, reduce_lanes, vector
from schedules.softmax_math import exp2, exp2_of_bits
from tests.schedules.kernel_harness import HOST_TARGETS, build_kernel
from tvm_vacc.runtime.tensors import to_numpy, to_tvm


def apply(target: str, emit: object, x: np.ndarray) -> np.ndarray:
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("apply")
        source = T.match_buffer(T.arg("source", T.handle()), x.shape, "float32")
        result = T.match_buffer(T.arg("result", T.handle()), x.shape, "float32")
        with T.serial(0, len(x) // 16) as i:
            lanes = vector(i * 16)
            T.buffer_store(result, emit(source[lanes]), [lanes])  # type: ignore[operator]
    out = to_tvm(np.zeros_like(x))
    build_kernel(builder.get(), HOST_TARGETS[target])(to_tvm(x), out)
    return to_numpy(out)


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_exp2_of_differences(target: str) -> None:
    x = np.linspace(-124.9, 0, 16 * 4096, dtype=np.float32)
    want = np.exp2(x.astype(np.float64))
    np.testing.assert_allclose(apply(target, exp2, x), want, rtol=3e-7)


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_exp2_at_the_ends(target: str) -> None:
    x = np.array([0, -0.0, -1, -125, -125.1, -1e4, -3e38, -np.inf] * 2, np.float32)
    want = [1, 1, 0.5, 2.0**-125, 0, 0, 0, 0] * 2
    np.testing.assert_array_equal(apply(target, exp2, x), np.array(want, np.float32))
    assert np.isnan(apply(target, exp2, np.full(16, np.nan, np.float32))).all()


@pytest.mark.skipif(
    isa_of(HOST_TARGETS["native"]).lanes < LANES, reason="this CPU has no AVX-512, or it is masked"
)
@pytest.mark.parametrize(("bits", "rtol"), [(13, 9e-5), (18, 3e-6)])
def test_exp2_of_some_bits(bits: int, rtol: float) -> None:
    x = np.linspace(-126, 0, 16 * 4096, dtype=np.float32)
    want = np.exp2(x.astype(np.float64))
    emit = functools.partial(exp2_of_bits, bits=bits)
    np.testing.assert_allclose(apply("native", emit, x), want, rtol=rtol)
    ends = np.array([0, -0.0, -1, -126, -126.1, -1e4, -3e38, -np.inf] * 2, np.float32)
    want = np.array([1, 1, 0.5, *[2.0**-126] * 5] * 2, np.float32)
    np.testing.assert_array_equal(apply("native", emit, ends), want)
    assert np.isnan(apply("native", emit, np.full(16, np.nan, np.float32))).all()


@pytest.mark.parametrize("target", HOST_TARGETS)
def test_lanes_fold_into_every_lane(target: str) -> None:
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    got = apply(target, lambda value: reduce_lanes(value, T.max)[vector(0)], x)
    np.testing.assert_array_equal(got, np.repeat(x.reshape(4, 16).max(1), 16))
