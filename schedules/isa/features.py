"""Vector registers of a CPU target, as the kernel generators see them."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm.target import codegen

PRODUCTS = ("bf16", "fp32")
"""What fp32 values and 16-bit ones are multiplied in; sums are fp32."""


@dataclass(frozen=True)
class Isa:
    """The instruction set that kernels are generated for.

    Attributes:
        name: ``amx``, ``avx512_bf16``, ``avx512_vnni``, ``avx512``, ``avx2_vnni``, ``avx2``,
            ``neon_bf16``, ``neon_i8mm``, ``neon_dot``, ``neon`` or ``portable``.
        lanes: fp32 lanes of one vector register.
        registers: architectural vector registers; bounds the accumulators of a tile.
        converts_half: fp16 to fp32 is an instruction; without it LLVM calls a library, a lane
            at a time.
        dots_bf16: dot products of bf16 pairs with fp32 sums are an instruction
            (`schedules.isa.bf16_dot`).
        dots_bytes: dot products of four bytes with int32 sums are an instruction
            (`schedules.isa.vnni`, `schedules.isa.arm`).
        signed_weights: that instruction takes no byte above 127 for an unsigned one.
        multiplies_pairs: products of two 16-bit pairs, added up as int32, are an instruction.
        tiles: products of tiles of bytes and of bf16 are an instruction (`schedules.isa.amx`).
    """

    name: str
    lanes: int
    registers: int
    converts_half: bool
    dots_bf16: bool = False
    dots_bytes: bool = False
    signed_weights: bool = False
    multiplies_pairs: bool = False
    tiles: bool = False


AMX = Isa(
    "amx",
    lanes=16,
    registers=32,
    converts_half=True,
    dots_bf16=True,
    dots_bytes=True,
    tiles=True,
)
AVX512_BF16 = Isa(
    "avx512_bf16", lanes=16, registers=32, converts_half=True, dots_bf16=True, dots_bytes=True
)
AVX512_VNNI = Isa("avx512_vnni", lanes=16, registers=32, converts_half=True, dots_bytes=True)
AVX512 = Isa("avx512", lanes=16, registers=32, converts_half=True, multiplies_pairs=True)
AVX2_VNNI = Isa("avx2_vnni", lanes=8, registers=16, converts_half=True, dots_bytes=True)
AVX2 = Isa("avx2", lanes=8, registers=16, converts_half=True, multiplies_pairs=True)
NEON_BF16 = Isa(
    "neon_bf16", lanes=4, registers=32, converts_half=True, dots_bf16=True, dots_bytes=True
)
NEON_I8MM = Isa("neon_i8mm", lanes=4, registers=32, converts_half=True, dots_bytes=True)
NEON_DOT = Isa(
    "neon_dot", lanes=4, registers=32, converts_half=True, dots_bytes=True, signed_weights=True
)
NEON = Isa("neon", lanes=4, registers=32, converts_half=True)
PORTABLE = Isa("portable", lanes=4, registers=16, converts_half=False)


def isa_of(target: tvm.target.Target | None) -> Isa:
    """Return the instruction set of `target`; portable when there is no target or no feature.

    Only the target decides, never the machine that compiles.
    """
    if target is None or target.kind.name != "llvm":
        return PORTABLE
    if codegen.target_has_features(["avx512f", "avx512bw"], target):
        if not codegen.target_has_features("avx512vnni", target):
            return AVX512
        if not codegen.target_has_features("avx512bf16", target):
            return AVX512_VNNI
        return AMX if _has_tiles(target) else AVX512_BF16
    if codegen.target_has_features(["avx2", "fma", "f16c"], target):
        return AVX2_VNNI if codegen.target_has_features("avxvnni", target) else AVX2
    # 32-bit Arm has NEON too, with half the registers and no fp16 conversion to rely on.
    triple = str(target.attrs.get("mtriple", codegen.llvm_get_system_triple()))
    if triple.startswith("aarch64") and codegen.target_has_features("neon", target):
        if codegen.target_has_features("i8mm", target):
            return NEON_BF16 if codegen.target_has_features("bf16", target) else NEON_I8MM
        return NEON_DOT if codegen.target_has_features("dotprod", target) else NEON
    return PORTABLE


def _has_tiles(target: tvm.target.Target) -> bool:
    """Tell whether kernels may use AMX: they ask Linux for it, and no other system."""
    triple = str(target.attrs.get("mtriple", "linux"))
    return "linux" in triple and codegen.target_has_features(["amx-int8", "amx-bf16"], target)


def current_isa() -> Isa:
    """Return the instruction set of the target whose context is open, as legalisation has it."""
    return isa_of(tvm.target.Target.current(allow_none=True))
