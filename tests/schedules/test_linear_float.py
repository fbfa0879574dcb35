from __future__ import annotations

import re
import time
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
@pytest.mark.parametrize(("out_features", "in_features"), [(1, 1), (64, 3), (65, 16), (200, 101)])
def test_pack_and_back(out_features: int, in_features: int, dtype: str, source: type) -> None:
    rng = np.random.default_rng(out_features)
    weight = rng.standard_normal((out_features, in_features)).astype(source)
    packed = pack_linear_weight(weight, dtype)
    assert packed.shape == packed_shape(out_features, in_features)
    assert packed.flags.c_contiguous
    stored = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    unpacked = unpack_linear_weight(packed, out_features, in_features)
    assert unpacked.dtype == stored
    np.testing.assert_array_equal(unpacked, weight.astype(stored))
    # Input 2 p + i of channel 64 b + c stands at [b, p, c, i], zeros beyond the last of either.
    last, end = out_features - 1, in_features - 1
    assert packed[last // 64, end // 2, last % 64, end % 2] == weight[last, end].astype(stored)
    assert not packed[-1, :, last % 64 + 1 :].astype(np.float32).any()
    if in_features % 2:
        assert not packed[:, -1, :, 1].astype(np.float32).any()


def test_view_is_packed_as_its_copy() -> None:
    whole = np.random.default_rng(0).standard_normal((130, 40)).astype(np.float32)
    packed = pack_linear_weight(whole[10:110, 4:30], "float16")
    np.testing.assert_array_equal(packed, pack_linear_weight(whole[10:110, 4:30].copy(), "float16"))


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="int8"):
        pack_linear_weight(np.zeros((2, 2), np.float32), "int8")


ZNVER4 = {"kind": "llvm", "mcpu": "znver4"}
ARM: dict[str, Any] = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


def assembly(target: Any, dtype: str, products: str) -> str:
    built = tvm.target.Target(target)
    # Large enough for one copy of the nest: the parallel one.
    kernel = linear_kernel(1024, 256, dtype, isa_of(built), bias_dtype="float32", products=products)
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    return str(tvm.compile(module, target=built).mod.inspect_source("asm"))


@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize(
    ("target", "products", "instruction"),
    [
        (ZNVER4, "fp32", r"vfmadd231ps.*%zmm"),
        ({**ZNVER4, "mattr": ["-avx512bf16"]}, "bf16", r"vfmadd231ps.*%zmm"),
        ({"kind": "llvm", "mcpu": "x86-64-v3"}, "bf16", r"vfmadd231ps.*%ymm"),
        (ARM, "bf16", r"fmla\s+v\d+\.4s"),
        ("llvm", "bf16", r"mulps|fmul|fmla"),
    ],
    ids=["znver4", "avx512", "x86-64-v3", "aarch64", "generic"],
)
def test_multiplies_and_adds_in_fp32(
    target: Any, products: str, instruction: str, dtype: str
) -> None:
    """Fused multiply-add where there is one, on full registers, and no call to convert a weight."""
    asm = assembly(target, dtype, products)
    assert re.search(instruction, asm)
    assert "vdpbf16ps" not in asm
    assert not re.search(r"(call\w*|bl)\s+\S*(extendhf|h2f)", asm)


def test_fp16_is_multiplied_in_fp32() -> None:
    asm = assembly(ZNVER4, "float16", "bf16")
    assert re.search(r"vfmadd231ps.*%zmm", asm)
    assert "vdpbf16ps" not in asm


def test_dot_products_of_bf16_where_the_target_has_them() -> None:
    asm = assembly(ZNVER4, "bfloat16", "bf16")
    assert re.search(r"vdpbf16ps\s.*%zmm", asm)
    assert "vfmadd" not in asm
    assert not re.search(r"call\w*\s+\S*bf16", asm)


def test_dot_products_of_bf16_on_arm() -> None:
    asm = assembly({**ARM, "mcpu": "neoverse-v1"}, "bfloat16", "bf16")
    assert re.search(r"\tbfdot\s+v\d+\.4s, v\d+\.8h, v\d+\.(2h\[|8h)", asm)
    assert re.search(r"\tbfcvtn\s", asm)
    assert "fmla" not in asm
    assert not re.search(r"\tbl\s+\S*bf", asm)


def test_compiles_in_reasonable_time() -> None:
    """TVM analyses accesses to what is allocated for seconds: the kernel must avoid that."""
    start = time.process_time()
    assembly(ZNVER4, "bfloat16", "bf16")
    assert time.process_time() - start < 3
