"""``relax.tvm_vacc.embedding``: the rows of a table, in fp32."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.embedding import embedding_kernel
from schedules.isa import current_isa
from tvm_vacc.ops._registry import (
    as_float32,
    call_kernel,
    flatten_leading,
    register_op,
    restore_leading,
    tensor_type,
)


def embedding_reference(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """``table[ids]`` in fp32; ids outside of the table give its first or last row.

    Args:
        table: ``[vocab, hidden]``.
        ids: ``[...]`` int32 or int64.
    """
    return as_float32(table)[np.clip(ids, 0, len(table) - 1)]


def _infer(call: relax.Call) -> relax.TensorType:
    table, ids = tensor_type(call.args[0], rank=2), tensor_type(call.args[1])
    if str(ids.dtype) not in ("int32", "int64"):
        raise TypeError(f"embedding: ids must be int32 or int64, got {ids}")
    return relax.TensorType([*ids.shape, table.shape[1]], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    table, ids = call.args[0], flatten_leading(builder, call.args[1], keep=0)
    vocab, hidden = (int(dim) for dim in tensor_type(table, rank=2).shape)
    (tokens,) = tensor_type(ids, rank=1).shape
    kernel = embedding_kernel(vocab, hidden, str(table.ty.dtype), str(ids.ty.dtype), current_isa())
    out_ty = relax.TensorType([tokens, hidden], "float32")
    out = call_kernel(builder, kernel, "embedding", [table, ids], out_ty)
    return restore_leading(builder, out, call.ty)


embedding = register_op(
    "embedding",
    describe="Embedding: table [vocab, hidden], ids [...] int32 or int64.",
    infer_type=_infer,
    legalize=_legalize,
    reference=embedding_reference,
)
