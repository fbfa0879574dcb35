"""The ``relax.tvm_vacc.*`` operators: one a file, with types, NumPy reference and legalisation."""

from tvm_vacc.ops.rms_norm import rms_norm

__all__ = ["rms_norm"]
