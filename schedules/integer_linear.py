"""The loop nest of linears over integer weights and quantised activations.

One nest serves every number of tokens. A task owns one block of 32 output channels and one panel
of activation rows; it goes over `in` a chunk at a time, and within a chunk over tiles of a few
rows, whose sums stay in registers. Decoding is one tile that reads each weight once from memory; in
prefill the chunk stays in the second-level cache for all tiles of the panel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.parallel import for_each_where
from schedules.prefetch import prefetch
from schedules.quantize_activations import LINE, QuantizedActivations
from schedules.sums import Sums
from schedules.tiles import IntegerTiles, sums_in_registers
from schedules.vector_math import widen

BLOCK = 32
"""Output channels a block: two AVX-512 registers of int32 sums."""

BYTES_A_STEP = 4 * BLOCK
"""Bytes of weights a step of the innermost loop takes: four a channel, two cache lines."""

FEW_ROWS = (1, 2, 4, 8)
"""Rows that there is code for beside whole tiles; a smaller rest computes rows too many and drops
them."""


@dataclass(frozen=True)
class Rows:
    """A tile: `count` rows (a Python number) from `first` of the panel that starts at `start`."""

    start: Any
    first: Any
    count: int


@dataclass(frozen=True)
class Steps:
    """`length` steps from step `first` of one block's weights."""

    block: Any
    first: Any
    length: Any


@dataclass(frozen=True)
class IntegerLinear(ABC):
    """Emits the loop nest of one kernel; buffers are those of its arguments."""

    isa: Isa
    tiles: IntegerTiles
    in_features: int
    out_features: int
    x: QuantizedActivations
    weight: Any
    scale: Any
    bias: Any
    out: Any

    @property
    @abstractmethod
    def steps_a_unit(self) -> int:
        """Steps that a chunk may not cut, a divisor of those of `in`."""

    @abstractmethod
    def allocate_sums(self) -> Any:
        """Allocate the sums of one panel, ``[.., 32]``; the nest sets them to zero."""

    @abstractmethod
    def multiply(self, sums: Sums, rows: Rows, steps: Steps, channel: Any, vectors: int) -> None:
        """Emit ``sums += x W`` for a tile and `vectors` registers of channels from `channel`."""

    def prefetch(self, rows: Rows, block: Any, step: Any) -> None:
        """Emit the fetch of weights that stand after `step`, where a tile of `rows` is to.

        The hardware stops at the end of each 4 KiB, which are 32 steps.
        """
        if rows.count < self.tiles.prefetch_rows:
            return
        for line in range(0, BYTES_A_STEP, LINE):
            # Not into the first-level cache: it has few misses in flight, and all of them would
            # wait for memory.
            prefetch(self.weight[block, step + self.tiles.prefetch_steps, line], locality=1)

    @abstractmethod
    def finished(self, sums: Sums, token: Any, first: Any, channel: Any, column: Any) -> Any:
        """Return the fp32 results at `token` of the panel of tokens that starts at `first`."""

    def emit(self, tokens: Any) -> None:
        """Emit all tasks, in parallel where the work is worth the launch."""
        rows = tokens * self.x.planes
        # At least one: where the other branch is left with no row, TVM would divide by zero.
        panels = T.max(T.ceildiv(rows, self.tiles.task_rows), 1)
        tasks = -(-self.out_features // BLOCK) * panels

        def one_task(task: Any) -> None:
            start = T.bind(task % panels * self.tiles.task_rows)
            count = T.bind(T.min(rows - start, self.tiles.task_rows))
            self._task(T.bind(task // panels), start, count)

        for_each_where(self.worth_a_launch(rows), tasks, one_task)

    def worth_a_launch(self, rows: Any) -> Any:
        """Return whether `rows` are enough work for several threads: True, or an expression."""
        products = self.in_features * self.out_features
        if products >= self.tiles.parallel_products:
            return True
        # Bound, or a pass of TVM solves the condition for each access below it.
        return T.bind(rows * products >= self.tiles.parallel_products)

    def _task(self, block: Any, start: Any, count: Any) -> None:
        """Emit one block of channels times one panel of rows."""
        steps, lanes = int(self.weight.shape[1]), self.isa.lanes
        sums = Sums(self.allocate_sums())
        rows_each, dtype = self.tiles.task_rows // int(sums.buffer.shape[0]), sums.buffer.dtype
        # What the rows of a tile beyond the last one add to does not matter.
        with T.serial(0, count // rows_each) as row, T.serial(0, BLOCK // lanes) as vector:
            zero = tirx.const(0, f"{dtype}x{lanes}")
            sums.store(zero, (row, T.ramp(vector * lanes, 1, lanes)))
        chunks = -(-steps // self.tiles.chunk_steps)
        longest = -(-steps // (chunks * self.steps_a_unit)) * self.steps_a_unit
        with T.serial(0, chunks) as chunk:
            first = T.bind(chunk * longest)
            length = T.bind(T.min(longest, steps - first))
            self.add_products(sums, start, count, Steps(block, first, length))
        self.finish(sums, block, start, count)

    def add_products(self, sums: Sums, start: Any, count: Any, steps: Steps) -> None:
        """Emit ``sums += x W`` for `count` rows from `start`, tile by tile."""
        most = self.tiles.rows
        sizes = [size for size in FEW_ROWS if self.x.planes <= size < most]
        with T.serial(0, T.ceildiv(count, most)) as tile:
            row = T.bind(tile * most)
            size = T.bind(T.min(most, count - row))
            smaller = 0
            for number in (*sizes, most):
                # Bound, or a pass of TVM solves the condition for each access below it.
                matches = T.bind(tirx.all(size > smaller, size <= number))
                smaller = number
                with T.If(matches), T.Then():
                    self._tile(sums, Rows(start, row, number), steps)

    def _tile(self, sums: Sums, rows: Rows, steps: Steps) -> None:
        """Emit one tile, its channels in as many parts as the registers demand."""
        vectors = BLOCK // self.isa.lanes
        while vectors * rows.count > sums_in_registers(self.isa):
            vectors //= 2
        width = vectors * self.isa.lanes
        with T.serial(0, BLOCK // width) as part:
            self.multiply(sums, rows, steps, part * width, vectors)

    def finish(self, sums: Sums, block: Any, start: Any, count: Any) -> None:
        """Emit ``out`` of one panel and block: finished sums plus the bias."""
        first = T.bind(start // self.x.planes)
        lanes = self.isa.lanes

        def finish(token: Any, channel: Any, column: Any) -> None:
            value = self.finished(sums, token, first, channel, column)
            if self.bias is not None:
                value = value + widen(self.bias[column], self.isa)
            T.buffer_store(self.out, value, [first + token, column])

        with T.serial(0, count // self.x.planes) as token:
            if self.out_features % BLOCK == 0:
                with T.serial(0, BLOCK // lanes) as vector:
                    channel = vector * lanes
                    column = T.ramp(block * BLOCK + channel, 1, lanes)
                    finish(token, T.ramp(channel, 1, lanes), column)
            else:
                with T.serial(0, T.min(BLOCK, self.out_features - block * BLOCK)) as channel:
                    finish(token, channel, block * BLOCK + channel)
