"""RMSNorm (Zhang and Sennrich, 2019) over the last dimension, one token a row."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.parallel import for_each, for_lanes
from schedules.vector_math import widen

PARTIAL_SUMS = 16
"""Sums a row, whatever the vector width: a single one would chain every addition to the one
before, and LLVM must not reorder floating-point sums by itself."""


def rms_norm_kernel(hidden: int, eps: float, weight_dtype: str, isa: Isa) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, hidden] fp32, weight [hidden], out [tokens, hidden] fp32)``."""
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("rms_norm")
        T.func_attr({"tirx.noalias": True})
        x, weight, out = (T.arg(name, T.handle()) for name in ("x", "weight", "out"))
        tokens = dimension("tokens")
        source = match_buffer(x, (tokens, hidden), "float32")
        scale = match_buffer(weight, (hidden,), weight_dtype)
        result = match_buffer(out, (tokens, hidden), "float32")

        def one_token(token: Any) -> None:
            partial = T.alloc_buffer((PARTIAL_SUMS,), "float32", scope="local")
            total = T.alloc_buffer((1,), "float32", scope="local")
            with T.vectorized(0, PARTIAL_SUMS) as lane:
                T.buffer_store(partial, T.float32(0), [lane])

            def add_squares(channel: Any) -> None:
                value = T.bind(source[token, channel])
                lanes = T.ramp(0, 1, PARTIAL_SUMS) if isinstance(channel, tirx.Ramp) else 0
                T.buffer_store(partial, partial[lanes] + value * value, [lanes])

            for_lanes(hidden, PARTIAL_SUMS, add_squares)
            T.buffer_store(total, T.float32(0), [0])
            with T.serial(0, PARTIAL_SUMS) as lane:
                T.buffer_store(total, total[0] + partial[lane], [0])
            mean_square = total[0] / T.float32(hidden)
            T.buffer_store(total, T.float32(1) / T.sqrt(mean_square + T.float32(eps)), [0])

            def normalise(channel: Any) -> None:
                factor = total[0]
                if isinstance(channel, tirx.Ramp):
                    factor = T.broadcast(factor, isa.lanes)
                value = source[token, channel] * factor * widen(scale[channel], isa)
                T.buffer_store(result, value, [token, channel])

            for_lanes(hidden, isa.lanes, normalise)

        for_each(tokens, hidden * 8, one_token)
    return builder.get()
