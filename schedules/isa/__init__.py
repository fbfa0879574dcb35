"""What a kernel may assume of the instruction set, read from the target and nothing else."""

from schedules.isa.features import Isa, isa_of

__all__ = ["Isa", "isa_of"]
