"""What `frontend.quantize.type` names: the arithmetic of a linear, and who chooses its codes.

The names are the same in the config, in the IR (attribute ``scheme``), in the manifest and in
``tvmc inspect``. A weight is ``code * scale``; scales are fp32 and symmetric: there is no zero
point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Activations = Literal["float", "int8"]

ROUND_TO_NEAREST: Final = "round_to_nearest"
"""Quantiser: every code is the one nearest to its weight."""

GPTQ: Final = "gptq"
"""Quantiser: codes are calibrated (`tvm_vacc.quantize.gptq`)."""

STORED: Final = "stored"
"""Quantiser: the model holds codes and scales already."""


@dataclass(frozen=True)
class Scheme:
    """How a quantised linear computes.

    Attributes:
        name: ``w8a16``: weights of 8 bits, activations of 16 bits or more.
        weight_bits: 8: one scale an output channel; 4: one scale a group of inputs.
        activations: ``float``, or ``int8``: quantised at run time, one scale a token.
    """

    name: str
    weight_bits: Literal[4, 8]
    activations: Activations

    def groups(self, in_features: int, group_size: int) -> int:
        """Return the number of scales an output channel has; the last group may be shorter."""
        return 1 if self.weight_bits == 8 else -(-in_features // group_size)


W8A16: Final = Scheme("w8a16", 8, "float")
W8A8: Final = Scheme("w8a8", 8, "int8")
W4A16: Final = Scheme("w4a16", 4, "float")

SCHEMES: Final = {scheme.name: scheme for scheme in (W8A16, W8A8, W4A16)}
"""By name, as attributes of operators hold it."""


@dataclass(frozen=True)
class Quantization:
    """What the user asks for under `frontend.quantize`.

    Attributes:
        type: as written there.
        scheme: of the linears inside the model; None: they stay as `backend.dtype`.
        quantizer: what chooses the codes.
        group_size: inputs that share a scale, where the scheme has groups.
        head: scheme of the head; None: it stays as `backend.dtype`.
        embedding: whether the embedding table is stored in 8 bits, one scale a row.
        kv8: whether the KV cache is stored in 8 bits, one scale a position and head.
        spares_activations: whether w8a8 leaves the activations of sensitive linears at 16 bits.
    """

    type: str
    scheme: Scheme | None
    quantizer: str
    group_size: int
    head: Scheme | None
    embedding: bool
    kv8: bool = False
    spares_activations: bool = True
