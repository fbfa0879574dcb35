"""Register tiles of the floating-point linear: some tokens times 64 channels, pairs of `in` a step.

A weight vector is one register's worth of consecutive values of ``[64, 2]``: pairs of channels.
Two instructions take it: the dot product of bf16 (`schedules.linear_bf16_tile`), whose lanes are
channels, and fused multiply-add (`FmaTile`), whose lanes are the values themselves, so that the
even and the odd `in` of a channel are summed in neighbouring lanes and added at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.parallel import for_lanes
from schedules.prefetch import prefetch
from schedules.vector_math import widen

BLOCK = 64
"""Output channels a block: four AVX-512 registers of fp32 sums."""

STEP_VALUES = 2 * BLOCK
"""Weights a step takes: a pair of `in` for each channel of the block."""

LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Rows:
    """`count` rows (a Python number): `panel_row` onwards of the sums, `row` of the activations."""

    panel_row: Any
    row: Any
    count: int


@dataclass(frozen=True)
class Steps:
    """`length` steps of a block from step `first`; no chunk has more than `most`."""

    block: Any
    first: Any
    length: Any
    most: int


@dataclass(frozen=True)
class Tile(ABC):
    """How one instruction multiplies; buffers are those of the kernel.

    Attributes:
        isa: the registers.
        weight: ``[blocks, pairs, 64, 2]``.
    """

    isa: Isa
    weight: Any

    sizes: tuple[int, ...] = ()
    """Rows a tile may have; other numbers are rounded up to the next."""

    width: int = 0
    """Lanes of sums a row."""

    pair_dtype: str = ""
    """What holds the activations of one pair of `in`."""

    vector_dtype: str = ""
    """Lanes of a weight vector that was loaded."""

    def instructions(self) -> AbstractContextManager[Any]:
        """Return the context for the body of the kernel."""
        return nullcontext()

    @abstractmethod
    def pack_row(self, packed: Any, token: Any, x: Any) -> None:
        """Emit the copy of row `token` of ``x [tokens, in]`` to `packed`, odd `in` filled up."""

    @abstractmethod
    def load(self, block: Any, step: Any, lane: Any) -> tirx.Expr:
        """Return the weight vector whose sums start at `lane`."""

    @abstractmethod
    def _spread(self, pair: Any) -> tirx.Expr:
        """Return the activations of one pair in all lanes."""

    @abstractmethod
    def _add_products(self, total: Any, x: Any, weight: Any) -> tirx.Expr:
        """Return `total` plus the products of one weight vector and one spread pair."""

    @abstractmethod
    def result(self, sums: Any, row: Any, channel: Any) -> tirx.Expr:
        """Return the sums of finished channels: a ramp of them, or one."""

    def multiply(self, sums: Any, packed: Any, rows: Rows, steps: Steps, *, ahead: bool) -> None:
        """Emit ``sums += x W`` of one tile and chunk.

        Args:
            sums: ``[panel rows, width]`` fp32.
            packed: ``[tokens, pairs]`` of `pair_dtype`.
            rows: of both.
            steps: of the weights.
            ahead: ask for the next chunk on the way.
        """
        lanes = self.isa.lanes
        every = T.ramp(0, 1, lanes)
        vectors = min(8, self.width // lanes)
        while vectors * rows.count > self.isa.registers * 3 // 4:
            vectors //= 2
        groups = self.width // (vectors * lanes)

        def place(row: int, first: Any, vector: int) -> list[Any]:
            return [rows.panel_row + row, T.ramp(first + vector * lanes, 1, lanes)]

        with T.serial(0, groups) as group:
            first = group * (vectors * lanes)
            # One buffer a register: as one large buffer, LLVM keeps them in memory.
            totals = [
                [T.alloc_buffer((lanes,), "float32") for _ in range(vectors)]
                for _ in range(rows.count)
            ]
            weights = [T.alloc_buffer((lanes,), self.vector_dtype) for _ in range(vectors)]
            for row, line in enumerate(totals):
                for vector, total in enumerate(line):
                    T.buffer_store(total, sums[tuple(place(row, first, vector))], [every])
            with T.serial(0, steps.length) as k:
                if ahead:
                    self._prefetch(steps, k, group, groups)
                for vector, weight in enumerate(weights):
                    value = self.load(steps.block, steps.first + k, first + vector * lanes)
                    T.buffer_store(weight, value, [every])
                for row, line in enumerate(totals):
                    x = T.bind(self._spread(packed[rows.row + row, steps.first + k]))
                    for total, weight in zip(line, weights, strict=True):
                        value = self._add_products(total[every], x, weight[every])
                        T.buffer_store(total, value, [every])
            for row, line in enumerate(totals):
                for vector, total in enumerate(line):
                    T.buffer_store(sums, total[every], place(row, first, vector))

    def _prefetch(self, steps: Steps, k: Any, group: Any, groups: int) -> None:
        """Emit the prefetch of this step's share of the next chunk, to the second-level cache.

        Memory then works all the time that the products take, whatever the number of tokens. A
        chunk is asked for as one stream a line of a step: several streams read faster than one.
        """
        values = LINE * 8 // tirx.const(0, self.weight.dtype).ty.dtype.bits
        streams = STEP_VALUES // values
        blocks, pairs = int(self.weight.shape[0]), int(self.weight.shape[1])
        lines = T.decl_buffer(
            (blocks * pairs * streams, values), self.weight.dtype, data=self.weight.data
        )
        chunk = (steps.block * pairs + steps.first + steps.most) * streams
        share = max(1, streams // groups)
        for i in range(share):
            stream = (group * share + i) % streams
            prefetch(lines[chunk + stream * steps.most + k, 0], locality=1)


@dataclass(frozen=True)
class FmaTile(Tile):
    """Fused multiply-add of values widened to fp32: products and sums are fp32."""

    sizes: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    width: int = STEP_VALUES
    pair_dtype: str = "int64"
    vector_dtype: str = "float32"

    def pack_row(self, packed: Any, token: Any, x: Any) -> None:
        """Emit the copy of a row in fp32."""
        in_features = int(x.shape[1])
        rows, pairs = packed.shape
        values = T.decl_buffer((rows, 2 * pairs), "float32", data=packed.data)
        for_lanes(
            in_features,
            self.isa.lanes,
            lambda k: T.buffer_store(values, x[token, k], [token, k]),
        )
        if in_features % 2:
            T.buffer_store(values, T.float32(0), [token, in_features])

    def load(self, block: Any, step: Any, lane: Any) -> tirx.Expr:
        """Return neighbouring values in fp32."""
        shape = (*self.weight.shape[:2], STEP_VALUES)
        values = T.decl_buffer(shape, self.weight.dtype, data=self.weight.data)
        return widen(values[block, step, T.ramp(lane, 1, self.isa.lanes)], self.isa)

    def _spread(self, pair: Any) -> tirx.Expr:
        pairs = T.broadcast(pair, self.isa.lanes // 2)
        return tirx.reinterpret(f"float32x{self.isa.lanes}", pairs)

    def _add_products(self, total: Any, x: Any, weight: Any) -> tirx.Expr:
        return total + x * weight

    def result(self, sums: Any, row: Any, channel: Any) -> tirx.Expr:
        """Return the sums over even and odd `in`, added."""
        even = 2 * channel
        if isinstance(channel, tirx.Ramp):
            even = T.ramp(2 * channel.base, 2, channel.lanes)
        return sums[row, even] + sums[row, even + 1]
