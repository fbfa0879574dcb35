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
        converts_half: fp16 to fp32 is an instruction; without it LLVM calls a library, a lane
            at a time.
    """

    name: str
    lanes: int
    registers: int
    converts_half: bool


AVX512 = Isa("avx512", lanes=16, registers=32, converts_half=True)
AVX2 = Isa("avx2", lanes=8, registers=16, converts_half=True)
NEON = Isa("neon", lanes=4, registers=32, converts_half=True)
PORTABLE = Isa("portable", lanes=4, registers=16, converts_half=False)


def isa_of(target: tvm.target.Target | None) -> Isa:
    """Return the instruction set of `target`; portable when there is no target or no feature.

    Only the target decides, never the machine that compiles.
    """
    if target is None or target.kind.name != "llvm":
        return PORTABLE
    if codegen.target_has_features(["avx512f", "avx512bw"], target):
        return AVX512
    if codegen.target_has_features(["avx2", "fma", "f16c"], target):
        return AVX2
    # 32-bit Arm has NEON too, with half the registers and no fp16 conversion to rely on.
    triple = str(target.attrs.get("mtriple", ""))
    if triple.startswith("aarch64") and codegen.target_has_features("neon", target):
        return NEON
    return PORTABLE


def current_isa() -> Isa:
    """Return the instruction set of the target whose context is open, as legalisation has it."""
    return isa_of(tvm.target.Target.current(allow_none=True))
