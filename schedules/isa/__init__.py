"""What a kernel may assume of the instruction set, read from the target and nothing else."""

from schedules.isa.features import AVX2, AVX512, NEON, PORTABLE, Isa, current_isa, isa_of

__all__ = ["AVX2", "AVX512", "NEON", "PORTABLE", "Isa", "current_isa", "isa_of"]
