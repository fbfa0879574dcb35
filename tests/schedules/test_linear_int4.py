from __future__ import annotations

import re

import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_int4 import (
    linear_int4_kernel,
    pack_linear_int4,
    packed_shapes,
    unpack_linear_int4,
)
from tests.schedules.quantized_kernels import LARGEST_CODE, TARGETS, int4_kernel, integers

LARGEST = LARGEST_CODE["float"]


def random_weight(
    out_features: int, in_features: int, group: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, scales that fp16 holds, and the weights in fp64 that both stand for."""
    rng = np.random.default_rng(in_features)
    weight = rng.integers(-8, 8, (out_features, in_features)).astype(np.int8)
    scale = rng.uniform(-1, 1, (out_features, in_features // group)).astype(np.float16)
    return weight, scale, weight * np.repeat(scale.astype(np.float64), group, axis=1)


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("out_features", [1, 32, 65])
def test_pack_and_back(out_features: int, group: int) -> None:
    weight, scale, _ = random_weight(out_features, 3 * group, group)
    packed, packed_scale = pack_linear_int4(weight, scale.astype(np.float32), group)
    assert (packed.shape, packed_scale.shape) == packed_shapes(out_features, 3 * group, group)
    assert (packed.dtype, packed_scale.dtype) == (np.uint8, np.float16)
    assert packed.flags.c_contiguous
    assert packed_scale.flags.c_contiguous
    unpacked, unpacked_scale = unpack_linear_int4(packed, packed_scale, out_features)
    np.testing.assert_array_equal(unpacked, weight)
    np.testing.assert_array_equal(unpacked_scale, scale)
    # Inputs 8 s + j and 8 s + 4 + j of channel 32 b + c share the byte [b, s, 4 c + j].
    channel = out_features - 1
    stored = int(packed[channel // 32, 2, channel % 32 * 4 + 1])
    assert (stored & 15, stored >> 4) == (weight[channel, 17] + 8, weight[channel, 21] + 8)


def test_what_cannot_be_packed_is_refused() -> None:
    weight, scale, _ = random_weight(3, 64, 32)
    for wrong, match in (((weight, scale, 48), "48"), ((weight[:, :40], scale, 32), "40")):
        with pytest.raises(ValueError, match=match):
            pack_linear_int4(*wrong)
    with pytest.raises(ValueError, match="-9"):
        pack_linear_int4(np.where(weight == 7, -9, weight).astype(np.int8), scale, 32)
    for scales in (scale * np.nan, scale.astype(np.float32) * 1e6):
        with pytest.raises(ValueError, match="fp16"):
            pack_linear_int4(weight, scales, 32)
    with pytest.raises(ValueError, match="multiple"):
        linear_int4_kernel(100, 4, 32, isa_of(TARGETS["generic"]), bias_dtype=None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("in_features", "out_features", "group"), [(96, 31, 32), (4480, 129, 128)])
def test_equals_integer_arithmetic(
    in_features: int, out_features: int, group: int, target: str
) -> None:
    weight, scale, exact = random_weight(out_features, in_features, group)
    rng = np.random.default_rng(1)
    bias = rng.standard_normal(out_features).astype(np.float32)
    x = integers(rng, 27, in_features, LARGEST)
    want = x.astype(np.float64) @ exact.T + bias
    size = (np.abs(x).astype(np.float64) @ np.abs(exact).T).max() + 4
    kernel = int4_kernel(in_features, out_features, group, target, "float32")
    packed = pack_linear_int4(weight, scale, group)
    together = kernel(x, *packed, bias)
    for tokens in (1, 2, 3, 4, 6, 7, 27):
        got = kernel(x[:tokens], *packed, bias)
        assert np.abs(got - want[:tokens]).max() <= 3e-7 * size
        np.testing.assert_array_equal(got, together[:tokens])


@pytest.mark.parametrize("target", TARGETS)
def test_extremes(target: str) -> None:
    in_features = 13696
    alternating = np.where(np.arange(in_features) % 2, 7, -8)
    rows = [np.full(in_features, -8), np.full(in_features, 7), alternating, -1 - alternating]
    weight = np.stack(rows).astype(np.int8)
    x = np.stack([np.full(in_features, LARGEST), np.full(in_features, -LARGEST), alternating])
    x[2] = np.where(x[2] > 0, LARGEST, -LARGEST)
    scale = np.ones((4, in_features // 64), np.float16)
    got = int4_kernel(in_features, 4, 64, target)(
        x.astype(np.float32), *pack_linear_int4(weight, scale, 64)
    )
    sums = x.astype(np.int64) @ weight.T.astype(np.int64)
    # One rounding to fp32 a group, all of one sign.
    np.testing.assert_allclose(got, sums, rtol=in_features / 64 * 2.0**-24)


def test_nothing_and_not_a_number() -> None:
    weight, scale, _ = random_weight(31, 320, 64)
    weight[3], scale[4] = 0, 0
    x = np.random.default_rng(0).standard_normal((7, 320)).astype(np.float32)
    kernel, packed = int4_kernel(320, 31, 64, "native"), pack_linear_int4(weight, scale, 64)
    clean = kernel(x, *packed)
    assert not clean[:, 3:5].any()
    x[1], x[2, 5], x[4, 319] = 0, np.nan, np.inf
    got = kernel(x, *packed)
    assert not got[1].any()
    assert np.isnan(got[[2, 4]]).all()
    np.testing.assert_array_equal(got[[0, 3, 5, 6]], clean[[0, 3, 5, 6]])


@pytest.mark.parametrize(
    ("mcpu", "instruction"),
    [("znver4", r"vpdpbusd\s.*%zmm"), ("x86-64-v3", r"vpmaddwd\s.*%ymm")],
)
def test_compiles_to_each_instruction_set(mcpu: str, instruction: str) -> None:
    built = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    kernel = linear_int4_kernel(4096, 4096, 128, isa_of(built), bias_dtype=None)
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    asm = tvm.compile(module, target=built).mod.inspect_source("asm")
    assert re.search(instruction, asm)
    assert "vpmaddubsw" not in asm
