"""SwiGLU (Shazeer, 2020, GLU Variants Improve Transformer): ``silu(gate) * up``."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.parallel import for_each, for_lanes
from schedules.vector_math import sigmoid


def swiglu_kernel(features: int, isa: Isa) -> tirx.PrimFunc:
    """Kernel ``(gate_up [tokens, 2 * features], out [tokens, features])``, fp32."""
    with IRBuilder() as builder, T.prim_func(private=True, s_tir=True):
        T.func_name("swiglu")
        T.func_attr({"tirx.noalias": True})
        gate_up, out = T.arg("gate_up", T.handle()), T.arg("out", T.handle())
        tokens = dimension("tokens")
        source = match_buffer(gate_up, (tokens, 2 * features), "float32")
        result = match_buffer(out, (tokens, features), "float32")

        def one_token(token: Any) -> None:
            def activate(channel: Any) -> None:
                gate = T.bind(source[token, channel])
                up = source[token, channel + features]
                T.buffer_store(result, gate * sigmoid(gate) * up, [token, channel])

            for_lanes(features, isa.lanes, activate)

        # TVM asks a kernel of one input whether it is a reshape, and wants a root block for that.
        with T.sblock("root"):
            T.reads()
            T.writes()
            for_each(tokens, features * 12, one_token)
    return builder.get()
