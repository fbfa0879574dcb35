from __future__ import annotations

from typing import Any

import pytest
import tvm

from schedules.isa import (
    AMX,
    AVX2,
    AVX2_VNNI,
    AVX512,
    AVX512_BF16,
    AVX512_VNNI,
    NEON,
    NEON_BF16,
    NEON_DOT,
    NEON_I8MM,
    PORTABLE,
    Isa,
    current_isa,
    isa_of,
)


@pytest.mark.parametrize(
    ("target", "isa"),
    [
        ("llvm", PORTABLE),
        ({"kind": "llvm", "mcpu": "znver4"}, AVX512_BF16),
        ({"kind": "llvm", "mcpu": "sapphirerapids"}, AMX),
        ({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-amx-tile"]}, AVX512_BF16),
        ({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-amx-int8"]}, AVX512_BF16),
        (
            {"kind": "llvm", "mcpu": "sapphirerapids", "mtriple": "x86_64-apple-macosx"},
            AVX512_BF16,
        ),
        ({"kind": "llvm", "mcpu": "znver4", "mattr": ["-avx512bf16"]}, AVX512_VNNI),
        ({"kind": "llvm", "mcpu": "cascadelake"}, AVX512_VNNI),
        ({"kind": "llvm", "mcpu": "skylake-avx512"}, AVX512),
        ({"kind": "llvm", "mcpu": "x86-64-v3"}, AVX2),
        ({"kind": "llvm", "mcpu": "alderlake"}, AVX2_VNNI),
        ({"kind": "llvm", "mcpu": "x86-64-v2"}, PORTABLE),
        ({"kind": "llvm", "mattr": ["+avx2", "+fma", "+f16c"]}, AVX2),
        ({"kind": "llvm", "mattr": ["+avx2"]}, PORTABLE),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, NEON),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+i8mm"]}, NEON_I8MM),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1"}, NEON_DOT),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-v1"}, NEON_BF16),
        ({"kind": "llvm", "mtriple": "armv7-linux-gnueabihf"}, PORTABLE),
        ({"kind": "llvm", "mtriple": "riscv64-linux-gnu"}, PORTABLE),
        ("c", PORTABLE),
    ],
)
def test_target_decides(target: Any, isa: Isa) -> None:
    target = tvm.target.Target(target)
    assert isa_of(target) == isa
    with target:
        assert current_isa() == isa


def test_without_target_nothing_is_assumed() -> None:
    assert isa_of(None) == current_isa() == PORTABLE
