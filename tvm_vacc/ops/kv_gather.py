"""``relax.tvm_vacc.kv_gather``: the dense keys and values of one row, read from the paged cache.

It stands between `rewrite_kv_cache`, which puts the paged cache in, and `fuse_gqa_attention`,
which reads pages by itself; it keeps the graph valid, and executable, in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from schedules.hadamard import hadamard_reference, transform_size
from schedules.kv_cache import WORD_VALUES, CodePlace, int8_key_place, int8_value_place
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.ops._kv_layout import check_caches
from tvm_vacc.ops._registry import as_float32, register_op, tensor_type


def kv_gather_reference(
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    page_table: np.ndarray,
    shape: tuple[int, int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and values ``[batch, kv_heads, total, head_dim]`` fp32, pages in table order.

    Args:
        key_cache: fp32, fp16, bf16 or int8 in the layout of `schedules.kv_cache`.
        value_cache: likewise, of the same dtype.
        page_table: ``[batch, pages_per_row]`` int32.
        shape: of the results; total is ``pages_per_row * 16``.
    """
    pack = WORD_VALUES[str(key_cache.dtype)]
    _, kv_heads, _, head_dim = shape
    if key_cache.dtype == np.int8:
        key = _dequantized(key_cache[page_table], head_dim, int8_key_place).reshape(shape)
        value = _dequantized(value_cache[page_table], head_dim, int8_value_place).reshape(shape)
        return hadamard_reference(key) / np.float32(transform_size(head_dim)), value
    heads = (*page_table.shape, kv_heads)
    key_words = as_float32(key_cache[page_table]).reshape(*heads, head_dim // pack, PAGE_SIZE, pack)
    value_words = as_float32(value_cache[page_table]).reshape(
        *heads, PAGE_SIZE // pack, head_dim, pack
    )
    key = key_words.transpose(0, 2, 1, 4, 3, 5).reshape(shape)
    value = value_words.transpose(0, 2, 1, 3, 5, 4).reshape(shape)
    return key, value


def _dequantized(
    pages_BMK: np.ndarray, head_dim: int, place_of: Callable[[int, Any, Any], CodePlace]
) -> np.ndarray:
    """Return ``[batch, kv_heads, pages, 16, head_dim]`` fp32 of int8 pages."""
    line, byte = place_of(head_dim, np.arange(head_dim), np.arange(PAGE_SIZE)[:, None])
    scales_BMKT = np.ascontiguousarray(pages_BMK[..., -1, :]).view(np.float32)
    values_BMKTD = pages_BMK[..., line, byte] * scales_BMKT[..., None]
    return values_BMKTD.swapaxes(1, 2)


def _infer(call: relax.Call) -> relax.TupleType:
    tensor_type(call.args[2], rank=2)
    shape = call.args[3]
    if not isinstance(shape, relax.ShapeExpr) or len(shape.values) != 4:
        raise TypeError(f"kv_gather: expected a shape of rank 4, got {shape}")
    kv_heads, head_dim = int(shape.values[1]), int(shape.values[3])
    check_caches("kv_gather", call.args[:2], kv_heads, head_dim)
    return relax.TupleType([relax.TensorType(shape, "float32")] * 2)


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    if tensor_type(call.args[0]).dtype == "int8":
        return _gather_codes(builder, *call.args)
    return _gather_floats(builder, *call.args)


def _gather_floats(
    builder: relax.BlockBuilder,
    key_cache: relax.Expr,
    value_cache: relax.Expr,
    page_table: relax.Expr,
    shape: relax.ShapeExpr,
) -> relax.Expr:
    kv_heads, head_dim = shape.values[1], shape.values[3]
    pack = WORD_VALUES[str(tensor_type(key_cache).dtype)]

    def gather(cache: relax.Expr, words: list[int], axes: list[int]) -> relax.Expr:
        pages = builder.emit(relax.op.take(cache, page_table, axis=0))
        counts = list(tensor_type(page_table).shape)
        pages = builder.emit(relax.op.reshape(pages, [*counts, kv_heads, *words, pack]))
        pages = builder.emit(relax.op.permute_dims(pages, axes))
        if pages.ty.dtype != "float32":
            pages = builder.emit(relax.op.astype(pages, "float32"))
        return builder.emit(relax.op.reshape(pages, shape))

    key = gather(key_cache, [head_dim // pack, PAGE_SIZE], [0, 2, 1, 4, 3, 5])
    value = gather(value_cache, [PAGE_SIZE // pack, head_dim], [0, 2, 1, 3, 5, 4])
    return relax.Tuple([key, value])


def _gather_codes(
    builder: relax.BlockBuilder,
    key_cache: relax.Expr,
    value_cache: relax.Expr,
    page_table: relax.Expr,
    shape: relax.ShapeExpr,
) -> relax.Expr:
    head_dim = int(shape.values[3])

    def gather(cache: relax.Expr, place_of: Callable[[int, Any, Any], CodePlace]) -> relax.Expr:
        def compute(pages: te.Tensor, table: te.Tensor) -> te.Tensor:
            def value(b: Any, k: Any, position: Any, d: Any) -> tirx.Expr:
                page, offset = table[b, position // PAGE_SIZE], position % PAGE_SIZE
                line, byte = place_of(head_dim, d, offset)
                bits = tirx.const(0, "uint32")
                for i in range(4):  # of the scale
                    part = pages[page, k, head_dim // 4, offset * 4 + i].astype("uint8")
                    bits = bits | (part.astype("uint32") << tirx.const(8 * i, "uint32"))
                code = pages[page, k, line, byte].astype("float32")
                return code * tirx.reinterpret("float32", bits)

            return te.compute(tuple(shape.values), value)

        return builder.emit_te(compute, cache, page_table)

    inverse = hadamard_reference(np.eye(head_dim, dtype=np.float32))
    inverse = relax.const(inverse / np.float32(transform_size(head_dim)))
    key = builder.emit(relax.op.matmul(gather(key_cache, int8_key_place), inverse))
    return relax.Tuple([key, gather(value_cache, int8_value_place)])


kv_gather = register_op(
    "kv_gather",
    describe="Dense keys and values of the rows in a page table; stands in for fused attention.",
    infer_type=_infer,
    legalize=_legalize,
    reference=kv_gather_reference,
)
