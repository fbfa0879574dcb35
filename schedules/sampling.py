"""Sampling of the next token: temperature, top-k, top-p, inverse CDF.

No sort. Probabilities relative to the best token lie in [0, 1], where the bits of an fp32 number
ascend with its value; so the threshold that keeps k tokens, or a mass of top_p, is searched over
those bits: each pass over the row weighs seven thresholds and leaves an eighth of the range, ten
passes leave one number. A pass is vector code, 20 us for 151552 tokens on AVX-512.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.parallel import for_lanes
from schedules.vector_math import exp

BITS_OF_ONE = 0x3F800000
"""1.0 in fp32, the weight of the most probable token."""

RANGES = 8
"""Parts that a pass divides the range into: seven thresholds and their sums fit 16 registers."""

PASSES = 10
"""``8 ** 10`` exceeds the number of fp32 values in (0, 1]."""

VECTORS_PER_BLOCK = 64
"""Vectors a block of the cumulative sum: the draw adds up blocks, then one block's tokens."""


def sample_kernel(vocab: int, isa: Isa) -> tirx.PrimFunc:
    """Kernel ``(logits [rows, vocab], temperature, top_p, top_k, uniform [rows], out [rows])``.

    Floats are fp32, `top_k` and the result int32. The semantics are those of the operator
    (`tvm_vacc.ops.sample`).
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("sample")
        T.func_attr({"tirx.noalias": True})
        names = ("logits", "temperature", "top_p", "top_k", "uniform", "out")
        logits, *rest = (T.arg(name, T.handle()) for name in names)
        rows = dimension("rows")
        logits = match_buffer(logits, (rows, vocab), "float32")
        dtypes = ("float32", "float32", "int32", "float32", "int32")
        temperature, top_p, top_k, uniform, out = (
            match_buffer(handle, (rows,), dtype) for handle, dtype in zip(rest, dtypes, strict=True)
        )
        with T.parallel(0, rows) as row:
            sampler = _RowSampler(vocab, isa, logits, row)
            best, token = sampler.find_best()
            with T.If(temperature[row] > T.float32(0)), T.Then():
                weights = sampler.weigh(best, temperature[row])
                threshold = sampler.find_threshold(weights, top_k[row], top_p[row])
                sampler.draw(weights, threshold, uniform[row], token)
            T.buffer_store(out, token[0], [row])
    return builder.get()


@dataclass(frozen=True)
class _RowSampler:
    """Emits the steps for one row of logits."""

    vocab: int
    isa: Isa
    logits: Any
    row: Any

    @property
    def vectors(self) -> int:
        """Vectors of a row, the last one filled up."""
        return -(-self.vocab // self.isa.lanes)

    def find_best(self) -> tuple[Any, Any]:
        """Emit the search of the largest logit; return buffers of it and of its lowest index.

        NaN is never the largest; without any number above -inf the index is 0.
        """
        lanes = self.isa.lanes
        lane_best, lane_token = self._register("float32"), self._register("int32")
        best, token = _scalar("float32"), _scalar("int32")
        every = T.ramp(0, 1, lanes)
        lowest = tirx.const(float("-inf"), "float32")
        T.buffer_store(lane_best, T.broadcast(lowest, lanes), [every])
        T.buffer_store(lane_token, T.broadcast(T.int32(0), lanes), [every])

        def compare(index: Any) -> None:
            lane = every if isinstance(index, tirx.Ramp) else 0
            value = T.bind(self.logits[self.row, index])
            larger = value > lane_best[lane]
            kept = T.Select(larger, index, lane_token[lane])
            T.buffer_store(lane_token, kept, [lane])
            T.buffer_store(lane_best, T.Select(larger, value, lane_best[lane]), [lane])

        for_lanes(self.vocab, lanes, compare)
        T.buffer_store(best, lane_best[0], [0])
        T.buffer_store(token, lane_token[0], [0])
        with T.serial(1, lanes) as lane:
            value, index = lane_best[lane], lane_token[lane]
            tie = tirx.all(value == best[0], index < token[0])
            with T.If(tirx.any(value > best[0], tie)), T.Then():
                T.buffer_store(best, value, [0])
                T.buffer_store(token, index, [0])
        return best, token

    def weigh(self, best: Any, temperature: Any) -> Any:
        """Emit ``exp((logits - best) / temperature)``; 1 at the best, 0 for NaN and the padding."""
        lanes = self.isa.lanes
        weights = T.alloc_buffer((self.vectors * lanes,), "float32")
        T.buffer_store(
            weights,
            T.broadcast(T.float32(0), lanes),
            [T.ramp((self.vectors - 1) * lanes, 1, lanes)],
        )

        def weigh(index: Any) -> None:
            width = lanes if isinstance(index, tirx.Ramp) else 1
            value = T.bind(self.logits[self.row, index])
            largest = _widened(best[0], width)
            # The comparisons keep infinite logits from becoming NaN.
            below = T.Select(
                value < largest,
                exp((value - largest) / _widened(temperature, width)),
                _widened(T.float32(0), width),
            )
            T.buffer_store(
                weights, T.Select(value == largest, _widened(T.float32(1), width), below), [index]
            )

        for_lanes(self.vocab, lanes, weigh)
        return weights

    def find_threshold(self, weights: Any, top_k: Any, top_p: Any) -> Any:
        """Emit the search of the least weight that is kept; return a buffer of its bits.

        First the largest threshold that keeps at least `top_k` tokens, then the largest above it
        that keeps at least `top_p` of their mass; never above the weight of the best token.
        """
        low, high = _scalar("int32"), _scalar("int32")
        target = _scalar("float32")
        T.buffer_store(low, T.int32(1), [0])  # the least positive number: what is kept has mass
        with T.serial(0, 2) as stage:
            counting = T.bind(stage == 0)
            limited = T.if_then_else(
                counting, tirx.all(top_k > 0, top_k < self.vocab), top_p < T.float32(1)
            )
            with T.If(limited), T.Then():
                T.buffer_store(high, T.int32(BITS_OF_ONE + 1), [0])
                with T.If(counting):
                    with T.Then():
                        T.buffer_store(target, T.cast(top_k, "float32"), [0])
                    with T.Else():
                        (mass,) = self._sums(weights, [low[0]], counting)
                        T.buffer_store(target, mass[0] * top_p, [0])
                with T.serial(0, PASSES):
                    start, end = T.bind(low[0]), T.bind(high[0])
                    step = T.bind((end - start + (RANGES - 1)) // RANGES)
                    candidates = [start + step * i for i in range(1, RANGES)]
                    T.buffer_store(high, T.min(end, start + step), [0])
                    sums = self._sums(weights, candidates, counting)
                    # Sums descend, so the last threshold that reaches the target is the largest.
                    for candidate, total in zip(candidates, sums, strict=True):
                        reached = tirx.all(candidate < end, total[0] >= target[0])
                        with T.If(reached), T.Then():
                            T.buffer_store(low, candidate, [0])
                            T.buffer_store(high, T.min(end, candidate + step), [0])
        return low

    def _sums(self, weights: Any, thresholds: list[Any], counting: Any) -> list[Any]:
        """Emit, for each threshold, the number or the mass of the weights not below it."""
        lanes = self.isa.lanes
        every = T.ramp(0, 1, lanes)
        zero = T.broadcast(T.float32(0), lanes)
        partial = [self._register("float32") for _ in thresholds]
        limits = [self._register("float32") for _ in thresholds]
        for register, limit, threshold in zip(partial, limits, thresholds, strict=True):
            T.buffer_store(register, zero, [every])
            value = T.broadcast(T.reinterpret("float32", threshold), lanes)
            T.buffer_store(limit, value, [every])
        with T.serial(0, self.vectors) as i:
            weight = T.bind(weights[T.ramp(i * lanes, 1, lanes)])
            one = T.broadcast(T.float32(1), lanes)
            counted = T.bind(T.Select(T.broadcast(counting, lanes), one, weight))
            for register, limit in zip(partial, limits, strict=True):
                added = T.Select(weight >= limit[every], counted, zero)
                T.buffer_store(register, register[every] + added, [every])
        totals = [_scalar("float32") for _ in thresholds]
        for register, total in zip(partial, totals, strict=True):
            self._add_lanes(register, total)
        return totals

    def draw(self, weights: Any, threshold: Any, uniform: Any, token: Any) -> None:
        """Emit the draw: the first kept token at which the cumulative mass exceeds its share.

        `token` holds the best token before, and still does where no weight is positive.
        """
        lanes = self.isa.lanes
        every = T.ramp(0, 1, lanes)
        limit = T.bind(T.reinterpret("float32", threshold[0]))
        blocks = -(-self.vectors // VECTORS_PER_BLOCK)
        block_sums = T.alloc_buffer((blocks,), "float32")
        total, last = _scalar("float32"), _scalar("int32")
        T.buffer_store(total, T.float32(0), [0])
        T.buffer_store(last, T.int32(0), [0])
        with T.serial(0, blocks) as block:
            partial, block_sum = self._register("float32"), _scalar("float32")
            T.buffer_store(partial, T.broadcast(T.float32(0), lanes), [every])
            first = block * VECTORS_PER_BLOCK
            with T.serial(0, T.min(VECTORS_PER_BLOCK, self.vectors - first)) as i:
                weight = T.bind(weights[T.ramp((first + i) * lanes, 1, lanes)])
                kept = T.Select(
                    weight >= T.broadcast(limit, lanes), weight, T.broadcast(T.float32(0), lanes)
                )
                T.buffer_store(partial, partial[every] + kept, [every])
            self._add_lanes(partial, block_sum)
            T.buffer_store(block_sums, block_sum[0], [block])
            T.buffer_store(total, total[0] + block_sum[0], [0])
            with T.If(block_sum[0] > T.float32(0)), T.Then():
                T.buffer_store(last, block, [0])

        share = T.bind(uniform * total[0])
        # Rounding may leave the share at the total: the last block with any mass ends the search.
        block, mass = _scalar("int32"), _scalar("float32")
        T.buffer_store(block, T.int32(0), [0])
        T.buffer_store(mass, T.float32(0), [0])
        with T.While(tirx.all(block[0] < last[0], mass[0] + block_sums[block[0]] <= share)):
            T.buffer_store(mass, mass[0] + block_sums[block[0]], [0])
            T.buffer_store(block, block[0] + 1, [0])
        start = T.bind(block[0] * (VECTORS_PER_BLOCK * lanes))
        found = _scalar("bool")
        T.buffer_store(found, T.bool(False), [0])
        with T.serial(0, T.min(VECTORS_PER_BLOCK * lanes, self.vocab - start)) as i:
            weight = T.bind(weights[start + i])
            with T.If(tirx.all(weight >= limit, tirx.Not(found[0]))), T.Then():
                T.buffer_store(token, T.cast(start + i, "int32"), [0])
                T.buffer_store(mass, mass[0] + weight, [0])
                T.buffer_store(found, mass[0] > share, [0])

    def _register(self, dtype: str) -> Any:
        return T.alloc_buffer((self.isa.lanes,), dtype)

    def _add_lanes(self, register: Any, total: Any) -> None:
        """Emit the sum of a register's lanes into `total`."""
        T.buffer_store(total, register[0], [0])
        with T.serial(1, self.isa.lanes) as lane:
            T.buffer_store(total, total[0] + register[lane], [0])


def _scalar(dtype: str) -> Any:
    return T.alloc_buffer((1,), dtype, scope="local")


def _widened(value: Any, lanes: int) -> Any:
    return value if lanes == 1 else T.broadcast(value, lanes)
