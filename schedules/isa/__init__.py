"""What a kernel may assume of the instruction set, read from the target and nothing else."""

from schedules.isa.features import (
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
    PRODUCTS,
    Isa,
    current_isa,
    isa_of,
)

__all__ = [
    "AMX",
    "AVX2",
    "AVX2_VNNI",
    "AVX512",
    "AVX512_BF16",
    "AVX512_VNNI",
    "NEON",
    "NEON_BF16",
    "NEON_DOT",
    "NEON_I8MM",
    "PORTABLE",
    "PRODUCTS",
    "Isa",
    "current_isa",
    "isa_of",
]
