"""The check that the caches an operator is given have the layout of `schedules.kv_cache`."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from schedules.kv_cache import WORD_VALUES, key_cache_shape, value_cache_shape
from tvm_vacc.ops._registry import tensor_type


def check_caches(
    op: str, caches: Sequence[relax.Expr], kv_heads: int, head_dim: int
) -> tuple[relax.TensorType, relax.TensorType]:
    """Return the types of the key and value caches of `kv_heads` heads of `head_dim`.

    Raises:
        TypeError: dtypes differ or cannot be stored, or a shape is another layout's.
    """
    key_ty, value_ty = (tensor_type(cache, rank=4) for cache in caches)
    dtype = str(key_ty.dtype)
    if dtype not in WORD_VALUES or value_ty.dtype != dtype:
        raise TypeError(f"{op}: caches are {dtype} and {value_ty.dtype}")
    for cache, layout in ((key_ty, key_cache_shape), (value_ty, value_cache_shape)):
        wanted = layout(1, kv_heads, head_dim, dtype)[1:]
        if tuple(int(dim) for dim in list(cache.shape)[1:]) != wanted:
            raise TypeError(
                f"{op}: cache {cache} does not hold {kv_heads} heads of dimension {head_dim}"
            )
    return key_ty, value_ty
