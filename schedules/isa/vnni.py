"""Dot products of four bytes with an int32 sum, by the best instruction of each CPU.

`dot_bytes` takes unsigned weights and signed activations: the operand that ``vpdpbusd`` can
broadcast from memory is the signed one, and weights offset by 128 need no correction of their own,
only ``128 * sum(activations)`` per token. Nothing saturates: ``vpdpbusd`` (AVX-512 VNNI, AVX-VNNI)
adds four exact products to its int32 sum; without it ``vpmaddwd`` on 16-bit halves does, since the
shorter ``vpmaddubsw`` would saturate at 16 bits.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa.arm import dot_bytes_arm
from schedules.isa.features import Isa

_VNNI = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
_MULTIPLY_ADD_PAIRS = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def dot_bytes(total: Any, weights: Any, activations: Any, isa: Isa) -> tirx.Expr:
    """Return ``total + sum of the 4 products`` in each of `isa.lanes` int32 lanes.

    Args:
        total: int32 lanes.
        weights: uint8, four a lane; where `isa.signed_weights`, taken as int8.
        activations: one int32 scalar whose four bytes are signed activations, lowest first.
    """
    lanes = isa.lanes
    if isa.dots_bytes and lanes == 4:
        return dot_bytes_arm(total, weights, activations, isa)
    if isa.dots_bytes:
        return T.call_llvm_pure_intrin(
            f"int32x{lanes}",
            _VNNI[lanes],
            total,
            tirx.reinterpret(f"int8x{4 * lanes}", weights),
            tirx.reinterpret(f"int8x{4 * lanes}", T.broadcast(activations, lanes)),
        )
    if isa.multiplies_pairs:
        return _dot_halves(total, weights, activations, lanes)
    words = tirx.reinterpret(f"uint32x{lanes}", weights)
    for byte in range(4):
        weight = (words >> tirx.const(8 * byte, words.ty)) & tirx.const(255, words.ty)
        activation = (activations << (24 - 8 * byte)) >> 24
        total = total + weight.astype(f"int32x{lanes}") * T.broadcast(activation, lanes)
    return total


def dot_pairs(total: Any, weights: Any, activations: Any, isa: Isa) -> tirx.Expr:
    """Return ``total + sum of the 2 products`` in each of `isa.lanes` int32 lanes.

    For an `isa` that `multiplies_pairs`.

    Args:
        total: int32 lanes.
        weights: int16, two a lane.
        activations: one int32 scalar: two int16, the first in the low half.
    """
    pairs = tirx.reinterpret(f"int16x{2 * isa.lanes}", T.broadcast(activations, isa.lanes))
    name = _MULTIPLY_ADD_PAIRS[isa.lanes]
    return total + T.call_llvm_pure_intrin(f"int32x{isa.lanes}", name, weights, pairs)


def _dot_halves(total: Any, weights: Any, activations: Any, lanes: int) -> tirx.Expr:
    """Even bytes, then odd bytes, widened to 16 bits: ``vpmaddwd`` adds two exact products."""
    pairs = tirx.reinterpret(f"uint16x{2 * lanes}", weights)
    signed = tirx.reinterpret(f"int16x{2 * lanes}", T.broadcast(activations, lanes))
    eight, low = tirx.const(8, pairs.ty), tirx.const(255, pairs.ty)
    shift = tirx.const(8, signed.ty)
    for weight, activation in (
        (pairs & low, (signed << shift) >> shift),
        (pairs >> eight, signed >> shift),
    ):
        signed_weight = tirx.reinterpret(f"int16x{2 * lanes}", weight)
        product = T.call_llvm_pure_intrin(
            f"int32x{lanes}", _MULTIPLY_ADD_PAIRS[lanes], signed_weight, activation
        )
        total = total + product
    return total
