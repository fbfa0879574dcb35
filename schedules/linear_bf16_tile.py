"""The register tile of linears that multiply in bf16, and the choice of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.isa.bf16_dot import bf16_dot, bf16_instructions, round_two_to_bf16
from schedules.linear_tile import BLOCK, Tile


def products_in(weight_dtype: str, wanted: str, isa: Isa) -> Literal["bf16", "fp32"]:
    """Return what weights stored as `weight_dtype` are multiplied in on `isa`.

    Args:
        wanted: ``bf16``: where the target has dot products of bf16 and the weights are bf16;
            ``fp32``: always.
    """
    dots = wanted == "bf16" and isa.dots_bf16 and weight_dtype == "bfloat16"
    return "bf16" if dots else "fp32"


def stored_as(dtype: str, wanted: str, isa: Isa) -> str:
    """Return what linears' weights are stored as where the user asks for `dtype`.

    fp16 that would be rounded to bf16 by every product is stored as bf16: the same results, bit
    for bit, and the same bytes, without a conversion a weight and token.
    """
    rounds = dtype == "float16" and products_in("bfloat16", wanted, isa) == "bf16"
    return "bfloat16" if rounds else dtype


@dataclass(frozen=True)
class DotTile(Tile):
    """``vdpbf16ps`` or ``bfdot``: activations rounded to bf16, weights of bf16, fp32 sums.

    Twelve tokens are 24 registers of sums over half a block. Numbers of rows between those of
    `sizes` cost the products of the next one, which decoding, bound by memory, does not notice.
    """

    sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12)
    width: int = BLOCK
    pair_dtype: str = "int32"
    vector_dtype: str = "int32"

    def instructions(self) -> AbstractContextManager[Any]:
        """Return the context that makes the dot products known to LLVM."""
        return bf16_instructions(self.isa.lanes)

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
        """Return the pairs of a register's channels as int32."""
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
