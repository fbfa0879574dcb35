"""The unit that an artefact's matrix products are held against."""

from __future__ import annotations

from tvm_vacc.artifact.manifest import Manifest

_UNITS = {"w8a8": "int8", "fp32": "fp32"}
"""What is multiplied by what weights are stored as; all else has 16-bit operands."""


def unit_of(manifest: Manifest, kind: str = "linear") -> str:
    """Return what the artefact's matrix products multiply, where the machine has it.

    Operands of 16 bits, floats or integers in two bytes, have the same peak: that of bf16.
    """
    stored = [weights for weights in manifest.storage if weights.kind == kind]
    most = max(stored, key=lambda weights: weights.bytes, default=None)
    products = manifest.products if most is None or most.stored_as == "fp16" else most.stored_as
    return _UNITS.get(products, "bf16")
