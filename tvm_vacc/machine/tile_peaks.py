"""The multiply-add peaks of AMX, measured in tile registers alone."""

from __future__ import annotations

from typing import NamedTuple

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import amx

STEPS = 1 << 13
"""Steps of a peak kernel, each four products: some 0.2 ms."""

OPERANDS = 4
"""Tiles of operands; as many sums are independent."""

TILE_WORDS = amx.ROWS * amx.COLUMNS

WORDS = OPERANDS * TILE_WORDS
"""32-bit words of all operands, and of all sums."""


class TilePeak(NamedTuple):
    """What a peak is made of.

    Attributes:
        unit: name of the peak.
        instruction: name of LLVM's intrinsic.
        dtype: of the operands, which random numbers are drawn of.
        products: multiplications of one instruction.
    """

    unit: str
    instruction: str
    dtype: str
    products: int


TILE_PEAKS = (
    TilePeak("bf16", "tdpbf16ps", "bfloat16", 2 * TILE_WORDS * amx.STEPS),
    TilePeak("int8", "tdpbsud", "int8", 4 * TILE_WORDS * amx.STEPS),
)


def operations(peak: TilePeak, threads: int) -> float:
    """Return the operations of one run of `tile_peak_kernel`, two a multiply-add."""
    return 2.0 * peak.products * OPERANDS * STEPS * threads


def tile_peak_kernel(threads: int, peak: TilePeak) -> tirx.PrimFunc:
    """Kernel ``(data, out)``, both ``[threads, 1024]`` int32: tiles of operands, tiles of sums.

    The operands must be no zeros: on those the processor runs faster than on any real data.
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("tile_peak")
        T.func_attr({"tirx.noalias": True})
        data, out = (
            T.match_buffer(T.arg(name, T.handle()), (threads, WORDS), "int32")
            for name in ("data", "out")
        )
        stride = T.int64(amx.ROW_BYTES)
        amx.require_tiles()
        with T.parallel(0, threads) as thread:
            amx.begin_tiles()
            for index in range(OPERANDS):
                amx.call_tile("tilezero", index)
                address = T.address_of(data[thread, index * TILE_WORDS])
                amx.call_tile("tileloadd64", OPERANDS + index, address, stride)
            with T.serial(0, STEPS):
                for index in range(OPERANDS):
                    amx.call_tile(peak.instruction, index, 4 + index // 2, 6 + index % 2)
            for index in range(OPERANDS):
                address = T.address_of(out[thread, index * TILE_WORDS])
                amx.call_tile("tilestored64", index, address, stride)
            amx.end_tiles()
    return builder.get()
