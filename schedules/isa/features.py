"""Vector registers of a CPU target, as the kernel generators see them."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm.target import codegen


@dataclass(frozen=True)
class Isa:
    """The instruction set that kernels are generated for.

    Attributes:
        name: ``avx512``, ``avx2``, ``neon`` or ``portable``.
        lanes: fp32 lanes of one vector register.
        registers: architectural vector registers; bounds the accumulators of a tile.
    """

    name: str
    lanes: int
    registers: int


AVX512 = Isa("avx512", lanes=16, registers=32)
AVX2 = Isa("avx2", lanes=8, registers=16)
NEON = Isa("neon", lanes=4, registers=32)
PORTABLE = Isa("portable", lanes=4, registers=16)


def isa_of(target: tvm.target.Target | None) -> Isa:
    """Return the instruction set of `target`; portable when there is no target or no feature.

    Only the target decides, never the machine that compiles.
    """
    if target is None or target.kind.name != "llvm":
        return PORTABLE
    if codegen.llvm_cpu_has_features(["avx512f", "avx512bw"], target):
        return AVX512
    if codegen.llvm_cpu_has_features(["avx2", "fma"], target):
        return AVX2
    if "aarch64" in str(target.attrs.get("mtriple", "")):
        return NEON
    return PORTABLE
