"""Table look-up of token embeddings."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from schedules.isa import Isa
from schedules.parallel import for_each, for_lanes
from schedules.vector_math import widen


def embedding_kernel(
    vocab: int, hidden: int, table_dtype: str, ids_dtype: str, isa: Isa
) -> tirx.PrimFunc:
    """Kernel ``(table [vocab, hidden], ids [tokens], out [tokens, hidden] fp32)``.

    An id outside of the table reads its first or last row, never other memory; the runtime
    refuses such ids before.
    """
    with IRBuilder() as builder, T.prim_func(private=True):
        T.func_name("embedding")
        T.func_attr({"tirx.noalias": True})
        table, ids, out = (T.arg(name, T.handle()) for name in ("table", "ids", "out"))
        tokens = T.int64()
        rows = T.match_buffer(table, (vocab, hidden), table_dtype)
        indices = T.match_buffer(ids, (tokens,), ids_dtype)
        result = T.match_buffer(out, (tokens, hidden), "float32")

        def copy_row(token: Any) -> None:
            last = tirx.const(vocab - 1, ids_dtype)
            row = T.bind(T.max(T.min(indices[token], last), tirx.const(0, ids_dtype)))

            def copy(channel: Any) -> None:
                T.buffer_store(result, widen(rows[row, channel], isa), [token, channel])

            for_lanes(hidden, isa.lanes, copy)

        for_each(tokens, hidden * 8, copy_row)
    return builder.get()
