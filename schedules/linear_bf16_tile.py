"""Register tiles of linears that multiply in bf16, and the choice of them.

fp16 weights lose three bits of their mantissa in bf16 and keep their range; their subnormals are
normal numbers there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.isa.bf16_dot import bf16_dot, bf16_instructions, round_two_to_bf16
from schedules.linear_tile import BLOCK, STEP_VALUES, Load, Steps, Tile
from schedules.vector_math import widen


def products_in(weight_dtype: str, wanted: str, isa: Isa) -> Literal["bf16", "fp32"]:
    """Return what weights of `weight_dtype` are multiplied in on `isa`.

    Args:
        wanted: ``bf16``: where the target has dot products of bf16 and the weights are stored in
            16 bits; ``fp32``: always.
    """
    dots = wanted == "bf16" and isa.dots_bf16 and weight_dtype != "float32"
    return "bf16" if dots else "fp32"


@dataclass(frozen=True)
class DotTile(Tile):
    """``vdpbf16ps``: activations and weights rounded to bf16, fp32 sums.

    Twelve tokens are 24 registers of sums over half a block. Numbers of rows between those of
    `sizes` cost the products of the next one, which decoding, bound by memory, does not notice.
    """

    sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12)
    width: int = BLOCK
    pair_dtype: str = "int32"
    vector_dtype: str = "int32"

    def instructions(self) -> AbstractContextManager[Any]:
        """Return the context that makes the dot products known to LLVM."""
        return bf16_instructions()

    def pack_row(self, packed: Any, token: Any, x: Any) -> None:
        """Emit the copy of a row, rounded to bf16."""
        in_features, lanes = int(x.shape[1]), self.isa.lanes
        values = 2 * lanes
        whole, rest = divmod(in_features, values)

        def store(index: Any, low: Any, high: Any) -> None:
            at = [token, T.ramp(index * lanes, 1, lanes)]
            T.buffer_store(packed, round_two_to_bf16(low, high), at)

        with T.serial(0, whole) as i:
            low = x[token, T.ramp(i * values, 1, lanes)]
            store(i, low, x[token, T.ramp(i * values + lanes, 1, lanes)])
        if rest:
            last = T.alloc_buffer((values,), "float32")
            low, high = T.ramp(0, 1, lanes), T.ramp(lanes, 1, lanes)
            for half in (low, high):
                T.buffer_store(last, T.broadcast(T.float32(0), lanes), [half])
            with T.serial(0, rest) as i:
                T.buffer_store(last, x[token, whole * values + i], [i])
            store(whole, last[low], last[high])

    def load(self, block: Any, step: Any, lane: Any) -> tirx.Expr:
        """Return the pairs of 16 channels as int32."""
        bits = T.decl_buffer(self.weight.shape[:3], "int32", data=self.weight.data)
        return bits[block, step, T.ramp(lane, 1, self.isa.lanes)]

    def _spread(self, pair: Any) -> tirx.Expr:
        return T.broadcast(pair, self.isa.lanes)

    def _add_products(self, total: Any, x: Any, weight: Any) -> tirx.Expr:
        # In this order LLVM reads activations, not weights, as operands in memory: a weight that
        # is not in the cache yet is waited for once.
        return bf16_dot(total, weight, x)

    def result(self, sums: Any, row: Any, channel: Any) -> tirx.Expr:
        """Return the sums themselves."""
        return sums[row, channel]


@dataclass(frozen=True)
class HalfDotTile(DotTile):
    """`DotTile` over fp16 weights, rounded to bf16 in registers, or once a chunk for many tiles."""

    staged_sizes: tuple[int, ...] = (4, 8, 12)

    def load(self, block: Any, step: Any, lane: Any) -> tirx.Expr:
        """Return the pairs of 16 channels, rounded to bf16, as int32."""
        shape = (*self.weight.shape[:2], STEP_VALUES)
        values = T.decl_buffer(shape, self.weight.dtype, data=self.weight.data)
        lanes = self.isa.lanes
        low, high = (
            widen(values[block, step, T.ramp(2 * lane + half, 1, lanes)], self.isa)
            for half in (0, lanes)
        )
        return round_two_to_bf16(low, high)

    def stage(self, staged: Any, steps: Steps) -> Load:
        """Emit the conversion of a chunk to ``staged [steps, 64]`` int32; return what loads it."""
        lanes = self.isa.lanes

        def load(_block: Any, step: Any, lane: Any) -> tirx.Expr:
            return staged[step - steps.first, T.ramp(lane, 1, lanes)]

        with T.serial(0, steps.length) as k:
            for lane in range(0, BLOCK, lanes):
                value = self.load(steps.block, steps.first + k, lane)
                T.buffer_store(staged, value, [k, T.ramp(lane, 1, lanes)])
        return load
