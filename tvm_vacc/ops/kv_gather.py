"""``relax.tvm_vacc.kv_gather``: the dense keys and values of one row, read from the paged cache.

It stands between `rewrite_kv_cache`, which puts the paged cache in, and `fuse_gqa_attention`,
which reads pages by itself; it keeps the graph valid, and executable, in between.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from tvm_vacc.ops._registry import as_float32, register_op, tensor_type


def kv_gather_reference(
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    page_table: np.ndarray,
    shape: tuple[int, int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and values ``[batch, kv_heads, total, head_dim]`` fp32, pages in table order.

    Args:
        key_cache: ``[pages, kv_heads, head_dim, 16]``.
        value_cache: ``[pages, kv_heads, 16, head_dim]``.
        page_table: ``[batch, pages_per_row]`` int32.
        shape: of the results; total is ``pages_per_row * 16``.
    """
    key_QMKDT, value_QMKTD = key_cache[page_table], value_cache[page_table]
    key = as_float32(key_QMKDT).transpose(0, 2, 1, 4, 3).reshape(shape)
    value = as_float32(value_QMKTD).transpose(0, 2, 1, 3, 4).reshape(shape)
    return key, value


def _infer(call: relax.Call) -> relax.TupleType:
    key_cache, value_cache = tensor_type(call.args[0], rank=4), tensor_type(call.args[1], rank=4)
    tensor_type(call.args[2], rank=2)
    shape = call.args[3]
    if not isinstance(shape, relax.ShapeExpr) or len(shape.values) != 4:
        raise TypeError(f"kv_gather: expected a shape of rank 4, got {shape}")
    kv_heads, head_dim, page = (int(dim) for dim in list(key_cache.shape)[1:])
    if [int(dim) for dim in list(value_cache.shape)[1:]] != [kv_heads, page, head_dim]:
        raise TypeError(f"kv_gather: caches {key_cache} and {value_cache} do not agree")
    return relax.TupleType([relax.TensorType(shape, "float32")] * 2)


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    key_cache, value_cache, page_table, shape = call.args

    def gather(cache: relax.Expr, axes: list[int]) -> relax.Expr:
        pages = builder.emit(relax.op.take(cache, page_table, axis=0))
        pages = builder.emit(relax.op.permute_dims(pages, axes))
        if pages.ty.dtype != "float32":
            pages = builder.emit(relax.op.astype(pages, "float32"))
        return builder.emit(relax.op.reshape(pages, shape))

    return relax.Tuple([gather(key_cache, [0, 2, 1, 4, 3]), gather(value_cache, [0, 2, 1, 3, 4])])


kv_gather = register_op(
    "kv_gather",
    describe="Dense keys and values of the rows in a page table; stands in for fused attention.",
    infer_type=_infer,
    legalize=_legalize,
    reference=kv_gather_reference,
)
