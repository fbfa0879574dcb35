"""The limits of this machine, measured by small kernels: reading memory, and multiply-add peaks.

Every kernel is a parallel loop with one task a thread, built by the same TIR as the product's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.isa.bf16_dot import bf16_dot, bf16_instructions
from schedules.isa.vnni import dot_bytes
from schedules.prefetch import prefetch
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.machine.memory import cold_bytes, large_tensor, random_tensor
from tvm_vacc.machine.setup import Setup
from tvm_vacc.machine.speeds import FLOAT, Speeds
from tvm_vacc.machine.tile_peaks import TILE_PEAKS, WORDS, operations, tile_peak_kernel
from tvm_vacc.runtime.executable import on_own_cpu

CHAINS = 12
"""Independent sums of a peak kernel: two units times a latency of four to six cycles."""

STEPS = 1 << 17
"""Steps of a peak kernel, each one instruction a chain: some 0.3 ms."""

READ_SUMS = 8
"""Sums of the read kernel; an addition is never what it waits for."""

ROUNDS_OF_CHOICE = 9
"""Rounds in which the patterns of reading compete."""


class ReadPattern(NamedTuple):
    """How a thread goes over its part of memory.

    Attributes:
        streams: places it reads at in turn.
        prefetch: bytes ahead of each that it asks for; 0: the hardware alone does.
    """

    streams: int
    prefetch: int


READ_PATTERNS = tuple(
    ReadPattern(streams, prefetch) for streams in (1, 2, 4) for prefetch in (0, 1024, 4096)
)
"""Which is fastest differs between machines: `Limits` tries all and keeps the best."""


class Limits:
    """Measures the limits for one setup, as often as asked.

    Attributes:
        pattern: the way of reading that was fastest.
        history: everything `measure` has returned.
    """

    def __init__(self, setup: Setup) -> None:
        lanes, threads = setup.isa.lanes, setup.threads
        # All operands are zero: no sum overflows or becomes subnormal.
        operands = large_tensor((threads, lanes), "int32")
        self._peaks: dict[str, tuple[Callable[[], None], float]] = {}
        for instruction in instructions(setup.isa):
            run = setup.build(peak_kernel(threads, lanes, instruction))
            out = large_tensor((threads, lanes), instruction.dtype)
            count = 2.0 * instruction.products * lanes * CHAINS * STEPS * threads
            self._peaks[instruction.unit] = (partial(run, operands, out), count)
        for peak in TILE_PEAKS if setup.isa.tiles else ():
            run = setup.build(tile_peak_kernel(threads, peak))
            values = 4 * WORDS // NUMPY_DTYPES[peak.dtype].itemsize
            operands = random_tensor((threads, values), peak.dtype)
            operands = operands._create_view((threads, WORDS), "int32")
            out = large_tensor((threads, WORDS), "int32")
            self._peaks[peak.unit] = (partial(run, operands, out), operations(peak, threads))
        self._bytes = cold_bytes() // (threads * READ_UNIT) * threads * READ_UNIT
        self.pattern, self._read = self._fastest_read(setup)
        self.history: list[Speeds] = []

    def measure(self) -> Speeds:
        """Return the limits as they are now; takes some 10 ms."""
        with on_own_cpu():
            peaks = {unit: count / _seconds(run) for unit, (run, count) in self._peaks.items()}
            speeds = Speeds(self._bytes / _seconds(self._read), peaks)
        self.history.append(speeds)
        return speeds

    def _fastest_read(self, setup: Setup) -> tuple[ReadPattern, Callable[[], None]]:
        lanes, threads = setup.isa.lanes, setup.threads
        data = large_tensor((self._bytes // 4,), "int32")
        out = large_tensor((threads, lanes), "int32")
        calls: dict[ReadPattern, Callable[[], None]] = {}
        for pattern in READ_PATTERNS:
            count = self._bytes // 4 // threads // pattern.streams
            run = setup.build(read_kernel(threads, count, pattern, lanes))
            calls[pattern] = partial(run, data._create_view((threads, pattern.streams, count)), out)
        taken: dict[ReadPattern, list[float]] = {pattern: [] for pattern in calls}
        for _ in range(ROUNDS_OF_CHOICE):
            for pattern, call in calls.items():
                taken[pattern].append(_seconds(call))
        best = min(taken, key=lambda pattern: statistics.median(taken[pattern]))
        return best, calls[best]


READ_UNIT = 1 << 16
"""Bytes: a thread's part is a multiple, so that streams, sums and lanes divide it."""


def read_kernel(threads: int, count: int, pattern: ReadPattern, lanes: int) -> tirx.PrimFunc:
    """Kernel ``(data [threads, streams, count] int32, out [threads, lanes] int32)``: sums."""
    vectors = READ_SUMS // pattern.streams
    """Vectors that a step reads of each stream."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("read")
        T.func_attr({"tirx.noalias": True})
        data = T.match_buffer(T.arg("data", T.handle()), (threads, pattern.streams, count), "int32")
        out = T.match_buffer(T.arg("out", T.handle()), (threads, lanes), "int32")
        every = _all(lanes)
        with T.parallel(0, threads) as thread:
            sums = [
                _register(T.broadcast(T.int32(0), lanes), "int32", lanes) for _ in range(READ_SUMS)
            ]
            with T.serial(0, count // (vectors * lanes)) as step:
                for index, total in enumerate(sums):
                    stream, vector = index % pattern.streams, index // pattern.streams
                    first = (step * vectors + vector) * lanes
                    if pattern.prefetch:
                        prefetch(data[thread, stream, first + pattern.prefetch // 4], locality=3)
                    part = data[thread, stream, T.ramp(first, 1, lanes)]
                    T.buffer_store(total, total[every] + part, [every])
            _store_sum(sums, out, thread, every)
    return builder.get()


class Instruction(NamedTuple):
    """What a peak is made of.

    Attributes:
        unit: name of the peak.
        dtype: of the sums.
        products: multiplications a lane.
        accumulate: emits it: a sum, and 32 bits a lane in a buffer, both operands, to the sum.
        context: opened round the body of a kernel that uses it.
    """

    unit: str
    dtype: str
    products: int
    accumulate: Callable[[Any, tirx.Buffer], tirx.Expr]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def instructions(isa: Isa) -> Iterator[Instruction]:
    """Yield the multiply-add instructions that `isa` has."""

    def fma(total: Any, operand: Any) -> tirx.Expr:
        value = T.reinterpret(f"float32x{isa.lanes}", operand[_all(isa.lanes)])
        return total * value + value

    def bf16(total: Any, operand: Any) -> tirx.Expr:
        pairs = operand[_all(isa.lanes)]
        return bf16_dot(total, pairs, pairs)

    def int8(total: Any, operand: Any) -> tirx.Expr:
        weights = T.reinterpret(f"uint8x{4 * isa.lanes}", operand[_all(isa.lanes)])
        return dot_bytes(total, weights, operand[0], isa)

    yield Instruction(FLOAT, "float32", 1, fma)
    if isa.dots_bf16:
        yield Instruction("bf16", "float32", 2, bf16, partial(bf16_instructions, isa.lanes))
    if isa.dots_bytes:
        yield Instruction("int8", "int32", 4, int8)


def peak_kernel(threads: int, lanes: int, instruction: Instruction) -> tirx.PrimFunc:
    """Kernel ``(data [threads, lanes] int32, out [threads, lanes])``: chains in registers."""
    dtype = instruction.dtype
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("peak")
        T.func_attr({"tirx.noalias": True})
        data = T.match_buffer(T.arg("data", T.handle()), (threads, lanes), "int32")
        out = T.match_buffer(T.arg("out", T.handle()), (threads, lanes), dtype)
        every = _all(lanes)
        with instruction.context(), T.parallel(0, threads) as thread:
            operand = _register(data[thread, every], "int32", lanes)
            # Different starts, or LLVM computes one chain for all.
            sums = [
                _register(T.broadcast(tirx.const(chain, dtype), lanes), dtype, lanes)
                for chain in range(CHAINS)
            ]
            with T.serial(0, STEPS):
                for total in sums:
                    value = instruction.accumulate(total[every], operand)
                    T.buffer_store(total, value, [every])
            _store_sum(sums, out, thread, every)
    return builder.get()


def _all(lanes: int) -> tirx.Expr:
    return T.ramp(0, 1, lanes)


def _register(value: tirx.Expr, dtype: str, lanes: int) -> tirx.Buffer:
    buffer = T.alloc_buffer((lanes,), dtype)
    T.buffer_store(buffer, value, [_all(lanes)])
    return buffer


def _store_sum(sums: list[tirx.Buffer], out: Any, thread: Any, every: Any) -> None:
    """Store what all sums depend on, so that none is left out."""
    for total in sums[1:]:
        T.buffer_store(sums[0], sums[0][every] + total[every], [every])
    T.buffer_store(out, sums[0][every], [thread, every])


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
