from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_float import (
    WEIGHT_DTYPES,
    linear_kernel,
    pack_linear_weight,
    packed_shape,
    unpack_linear_weight,
)
from tests.ops.harness import FLOAT_DTYPES


@pytest.mark.parametrize("source", [np.float64, *FLOAT_DTYPES])
@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize(("out_features", "in_features"), [(1, 1), (64, 3), (65, 17), (200, 100)])
def test_pack_and_back(out_features: int, in_features: int, dtype: str, source: type) -> None:
    rng = np.random.default_rng(out_features)
    weight = rng.standard_normal((out_features, in_features)).astype(source)
    packed = pack_linear_weight(weight, dtype)
    assert packed.shape == packed_shape(out_features, in_features)
    assert packed.flags.c_contiguous
    stored = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    unpacked = unpack_linear_weight(packed, out_features)
    assert unpacked.dtype == stored
    np.testing.assert_array_equal(unpacked, weight.astype(stored))
    # Channel 64 b + c of input k stands at [b, k, c], and zeros beyond the last channel.
    last = out_features - 1
    assert packed[last // 64, in_features - 1, last % 64] == weight[last, -1].astype(stored)
    assert not packed[-1, :, last % 64 + 1 :].astype(np.float32).any()


def test_view_is_packed_as_its_copy() -> None:
    whole = np.random.default_rng(0).standard_normal((130, 40)).astype(np.float32)
    packed = pack_linear_weight(whole[10:110, 4:30], "float16")
    np.testing.assert_array_equal(packed, pack_linear_weight(whole[10:110, 4:30].copy(), "float16"))


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="int8"):
        pack_linear_weight(np.zeros((2, 2), np.float32), "int8")


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        ({"kind": "llvm", "mcpu": "znver4"}, r"vfmadd231ps.*%zmm"),
        ({"kind": "llvm", "mcpu": "x86-64-v3"}, r"vfmadd231ps.*%ymm"),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, r"fmla\s+v\d+\.4s"),
        ("llvm", r"mulps|fmul|fmla"),
    ],
    ids=["znver4", "x86-64-v3", "aarch64", "generic"],
)
def test_compiles_to_each_instruction_set(target: Any, instruction: str, dtype: str) -> None:
    """Fused multiply-add where there is one, on full registers, and no call to convert a weight."""
    built = tvm.target.Target(target)
    kernel = linear_kernel(100, 128, dtype, isa_of(built), bias_dtype=dtype)
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    asm = tvm.compile(module, target=built).mod.inspect_source("asm")
    assert re.search(instruction, asm)
    assert not re.search(r"(call\w*|bl)\s+\S*(extendhf|h2f)", asm)
