"""Dot products of four bytes with an int32 sum on 64-bit Arm, whose registers have 128 bits.

``usdot`` (feature i8mm) multiplies unsigned by signed bytes, as ``vpdpbusd`` does. ``sdot``
(dotprod, on server cores since Neoverse N1) wants both signed: the weights' offset of 128 is taken
off once a load, by one ``eor`` for all rows of a tile. Neither saturates. ``smmla`` does twice as
much an instruction, on weights that would have to stand in pairs of channels by eight inputs: not
in the layout that all processors share.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa.features import Isa


def dot_bytes_arm(total: Any, weights: Any, activations: Any, isa: Isa) -> tirx.Expr:
    """Return what `schedules.isa.vnni.dot_bytes` does; see there."""
    name = "sdot" if isa.signed_weights else "usdot"
    signed = f"int8x{4 * isa.lanes}"
    return T.call_llvm_pure_intrin(
        f"int32x{isa.lanes}",
        f"llvm.aarch64.neon.{name}",
        total,
        tirx.reinterpret(signed, weights),
        tirx.reinterpret(signed, T.broadcast(activations, isa.lanes)),
    )
