from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_int8 import (
    linear_int8_kernel,
    pack_linear_int8,
    packed_shape,
    unpack_linear_int8,
)
from tests.schedules.quantized_kernels import LARGEST_CODE, TARGETS, int8_kernel, integers

KINDS = tuple(LARGEST_CODE)
ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


@pytest.mark.parametrize(("out_features", "in_features"), [(1, 1), (32, 4), (65, 17), (200, 100)])
def test_pack_and_back(out_features: int, in_features: int) -> None:
    rng = np.random.default_rng(out_features)
    weight = rng.integers(-128, 128, (out_features, in_features)).astype(np.int8)
    packed = pack_linear_int8(weight)
    assert packed.shape == packed_shape(out_features, in_features)
    assert packed.flags.c_contiguous
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_linear_int8(packed, out_features, in_features), weight)
    # Channel 32 b + c, input 4 s + j, stands at [b, s, 4 c + j], plus 128.
    channel, k = out_features - 1, in_features - 1
    stored = packed[channel // 32, k // 4, channel % 32 * 4 + k % 4]
    assert stored == int(weight[channel, k]) + 128
    blocks, steps, _ = packed.shape
    everything = unpack_linear_int8(packed, blocks * 32, steps * 4)
    assert not everything[out_features:].any()
    assert not everything[:, in_features:].any()


def test_view_is_packed_as_its_copy() -> None:
    whole = np.arange(130 * 40).astype(np.int8).reshape(130, 40)
    view = whole[10:110, 4:30]
    np.testing.assert_array_equal(pack_linear_int8(view), pack_linear_int8(view.copy()))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("in_features", "out_features"), [(35, 31), (6000, 97)])
def test_equals_integer_arithmetic(
    in_features: int, out_features: int, kind: str, target: str
) -> None:
    rng = np.random.default_rng(in_features)
    weight = rng.integers(-128, 128, (out_features, in_features)).astype(np.int8)
    scale = rng.uniform(-1, 1, out_features).astype(np.float32)
    bias = rng.standard_normal(out_features).astype(np.float32)
    x = integers(rng, 27, in_features, LARGEST_CODE[kind])
    sums = x.astype(np.int64) @ weight.T.astype(np.int64)
    kernel = int8_kernel(in_features, out_features, target, kind, "float32")
    packed = pack_linear_int8(weight)
    want = sums * scale.astype(np.float64) + bias
    size = np.abs(sums * scale).max() + 4
    for tokens in (1, 2, 3, 5, 8, 12, 13, 27):
        got = kernel(x[:tokens], packed, scale, bias)
        assert np.abs(got - want[:tokens]).max() <= 3e-7 * size


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_extremes_do_not_saturate(kind: str, target: str) -> None:
    """The longest sums of GLM-4-9B, all of one sign, exact but for the rounding to fp32."""
    in_features, largest = 13696, LARGEST_CODE[kind]
    alternating = np.where(np.arange(in_features) % 2, 127, -128)
    weight = np.stack(
        [np.full(in_features, -128), np.full(in_features, 127), alternating, -1 - alternating]
    ).astype(np.int8)
    x = np.stack([np.full(in_features, largest), np.full(in_features, -largest), alternating > 0])
    x[2] = np.where(x[2], largest, -largest)
    sums = x.astype(np.int64) @ weight.T.astype(np.int64)
    scale = np.ones(4, np.float32)
    got = int8_kernel(in_features, 4, target, kind)(
        x.astype(np.float32), pack_linear_int8(weight), scale
    )
    np.testing.assert_allclose(got, sums, rtol=2.0**-22)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_token_does_not_depend_on_its_batch(kind: str, target: str) -> None:
    rng = np.random.default_rng(0)
    weight = pack_linear_int8(rng.integers(-128, 128, (97, 6000)).astype(np.int8))
    scale, bias = rng.uniform(0, 1, (2, 97)).astype(np.float32)
    kernel = int8_kernel(6000, 97, target, kind, "float32")
    x = rng.standard_normal((101, 6000)).astype(np.float32)
    together = kernel(x, weight, scale, bias)
    for first, end in ((0, 1), (1, 3), (3, 7), (10, 22), (22, 45), (100, 101)):
        alone = kernel(x[first:end], weight, scale, bias)
        np.testing.assert_array_equal(alone, together[first:end])


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_and_not_a_number(kind: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (31, 35)).astype(np.int8)
    scale = np.ones(31, np.float32)
    weight[3], scale[4] = 0, 0
    x = rng.standard_normal((7, 35)).astype(np.float32)
    kernel, packed = int8_kernel(35, 31, "native", kind), pack_linear_int8(weight)
    clean = kernel(x, packed, scale)
    assert not clean[:, 3:5].any()
    x[1], x[2, 5], x[4, 34] = 0, np.nan, np.inf
    got = kernel(x, packed, scale)
    assert not got[1].any()
    assert np.isnan(got[[2, 4]]).all()
    np.testing.assert_array_equal(got[[0, 3, 5, 6]], clean[[0, 3, 5, 6]])


def test_sixteen_bit_activations_are_better_than_bf16() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (97, 6000)).astype(np.int8)
    x = rng.standard_normal((8, 6000)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.T
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float64) @ weight.T
    kernel = int8_kernel(6000, 97, "native", "float", "float32")
    ones, zeros = np.ones(97, np.float32), np.zeros(97, np.float32)
    error = np.linalg.norm(kernel(x, pack_linear_int8(weight), ones, zeros) - exact)
    assert error < 0.1 * np.linalg.norm(rounded - exact)


@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ({"kind": "llvm", "mcpu": "sapphirerapids"}, r"tdpbsud\s.*%tmm"),
        ({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-amx-tile"]}, r"vpdpbusd\s.*%zmm"),
        ({"kind": "llvm", "mcpu": "znver4"}, r"vpdpbusd\s.*%zmm"),
        ({"kind": "llvm", "mcpu": "cascadelake"}, r"vpdpbusd\s.*%zmm"),
        ({"kind": "llvm", "mcpu": "skylake-avx512"}, r"vpmaddwd\s.*%zmm"),
        ({"kind": "llvm", "mcpu": "alderlake"}, r"vpdpbusd\s.*%ymm"),
        ({"kind": "llvm", "mcpu": "x86-64-v3"}, r"vpmaddwd\s.*%ymm"),
        (ARM, r"(mla|mul)\s+v\d+\.4s"),
        ({**ARM, "mattr": ["+dotprod"]}, r"\tsdot\s+v\d+\.4s, v\d+\.16b, v\d+\.(4b\[|16b)"),
        ({**ARM, "mcpu": "neoverse-v1"}, r"\tusdot\s+v\d+\.4s, v\d+\.16b, v\d+\.(4b\[|16b)"),
    ],
    ids=[
        *("amx", "no-amx", "znver4", "cascadelake", "skylake-avx512", "alderlake", "x86-64-v3"),
        *("aarch64", "dotprod", "neoverse-v1"),
    ],
)
def test_compiles_to_each_instruction_set(target: Any, instruction: str) -> None:
    built = tvm.target.Target(target)
    kernel = linear_int8_kernel(
        4096, 4096, isa_of(built), activations="float", bias_dtype="float32"
    )
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    asm = tvm.compile(module, target=built).mod.inspect_source("asm")
    assert re.search(instruction, asm)
    assert "vpmaddubsw" not in asm


def test_what_no_kernel_can_do_is_refused() -> None:
    isa = isa_of(TARGETS["generic"])
    with pytest.raises(ValueError, match="int16"):
        linear_int8_kernel(4, 4, isa, activations="int16", bias_dtype=None)
    with pytest.raises(ValueError, match="65537"):
        linear_int8_kernel(65537, 4, isa, activations="int8", bias_dtype=None)
