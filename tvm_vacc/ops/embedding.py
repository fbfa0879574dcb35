"""``relax.tvm_vacc.embedding``: the rows of a table, in fp32; in 8 bits with one scale a row."""

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


def embedding_reference(
    table: np.ndarray, ids: np.ndarray, scale: np.ndarray | None = None
) -> np.ndarray:
    """``table[ids]`` in fp32; ids outside of the table give its first or last row.

    Args:
        table: ``[vocab, hidden]``, a float type, or int8 codes.
        ids: ``[...]`` int32 or int64.
        scale: ``[vocab, 1]`` fp32, of codes only.
    """
    rows = np.clip(ids, 0, len(table) - 1)
    return as_float32(table)[rows] * (np.float32(1) if scale is None else scale[rows])


def _infer(call: relax.Call) -> relax.TensorType:
    table, ids = tensor_type(call.args[0], rank=2), tensor_type(call.args[1])
    if str(ids.dtype) not in ("int32", "int64"):
        raise TypeError(f"embedding: ids must be int32 or int64, got {ids}")
    if (str(table.dtype) == "int8") != (len(call.args) == 3):
        raise TypeError(f"embedding: codes have scales and nothing else has, got {table}")
    if len(call.args) == 3 and list(tensor_type(call.args[2]).shape) != [table.shape[0], 1]:
        raise TypeError(f"embedding: scales {call.args[2].ty} do not fit {table}")
    return relax.TensorType([*ids.shape, table.shape[1]], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    table, scale = call.args[0], list(call.args[2:])
    ids = flatten_leading(builder, call.args[1], keep=0)
    vocab, hidden = (int(dim) for dim in tensor_type(table, rank=2).shape)
    (tokens,) = tensor_type(ids, rank=1).shape
    kernel = embedding_kernel(vocab, hidden, str(table.ty.dtype), str(ids.ty.dtype), current_isa())
    out_ty = relax.TensorType([tokens, hidden], "float32")
    out = call_kernel(builder, kernel, "embedding", [table, ids, *scale], out_ty)
    return restore_leading(builder, out, call.ty)


embedding = register_op(
    "embedding",
    describe="Embedding: table [vocab, hidden], ids [...] integer, scale [vocab, 1] of int8.",
    infer_type=_infer,
    legalize=_legalize,
    reference=embedding_reference,
)
