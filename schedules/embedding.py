"""Table look-up of token embeddings."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.arguments import dimension, match_buffer
from schedules.isa import Isa
from schedules.lanes import spread
from schedules.parallel import for_each, for_lanes
from schedules.vector_math import widen


def embedding_kernel(
    vocab: int, hidden: int, table_dtype: str, ids_dtype: str, isa: Isa
) -> tirx.PrimFunc:
    """Kernel ``(table [vocab, hidden], ids [tokens], [scale [vocab, 1]], out [tokens, hidden])``.

    The result is fp32. A table of int8 codes has an fp32 scale a row.

    An id outside of the table reads its first or last row, never other memory; the runtime
    refuses such ids before.
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("embedding")
        T.func_attr({"tirx.noalias": True})
        has_scale = table_dtype == "int8"
        names = ("table", "ids", *(("scale",) if has_scale else ()), "out")
        table, ids, *scale, out = (T.arg(name, T.handle()) for name in names)
        tokens = dimension("tokens")
        rows = match_buffer(table, (vocab, hidden), table_dtype)
        indices = match_buffer(ids, (tokens,), ids_dtype)
        scales = match_buffer(scale[0], (vocab, 1), "float32") if has_scale else None
        result = match_buffer(out, (tokens, hidden), "float32")

        def copy_row(token: Any) -> None:
            last = tirx.const(vocab - 1, ids_dtype)
            row = T.bind(T.max(T.min(indices[token], last), tirx.const(0, ids_dtype)))

            def copy(channel: Any) -> None:
                value = widen(rows[row, channel], isa)
                if scales is not None:
                    value = value * spread(scales[row, 0], value)
                T.buffer_store(result, value, [token, channel])

            for_lanes(hidden, isa.lanes, copy)

        for_each(tokens, hidden * 8, copy_row)
    return builder.get()
