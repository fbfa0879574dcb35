from __future__ import annotations

import numpy as np
from tvm import relax

from tests.relay_passes.build import module
from tests.relay_passes.running import run_main
from tests.schedules.paged_caches import key_cache_of, value_cache_of
from tvm_vacc.ops.kv_gather import kv_gather


def test_pages_come_in_table_order() -> None:
    """Position p of the row is written as p, so the dense view has to count upwards."""
    pages, kv_heads, head_dim, page_size = 5, 2, 4, 16
    table = np.array([[3, 0, 4]], np.int32)
    total = table.size * page_size
    positions = np.full((pages, page_size), -1, np.float32)
    positions[table[0]] = np.arange(total).reshape(-1, page_size)
    dense = np.broadcast_to(positions[..., None, None], (pages, page_size, kv_heads, head_dim))
    dense = dense + np.arange(head_dim, dtype=np.float32) / 8
    shape = (1, kv_heads, total, head_dim)
    row = np.arange(total)[:, None] + np.arange(head_dim) / 8
    want = np.broadcast_to(row.astype(np.float32), shape)

    def body(emit, k: relax.Var, v: relax.Var, rows: relax.Var) -> list[relax.Expr]:  # type: ignore[no-untyped-def]
        dense = emit(kv_gather(k, v, rows, relax.ShapeExpr(shape)))
        return [emit(relax.TupleGetItem(dense, 0)), emit(relax.TupleGetItem(dense, 1))]

    for dtype in ("float32", "float16"):
        key, value = key_cache_of(dense.astype(dtype)), value_cache_of(dense.astype(dtype))
        shapes = {"k": key.shape, "v": value.shape, "rows": table.shape}
        built = module(shapes, {}, body, {"k": dtype, "v": dtype, "rows": "int32"})
        for got in run_main(built, {"k": key, "v": value, "rows": table}):
            np.testing.assert_array_equal(got, want)
        for got in kv_gather.reference(key, value, table, shape):
            np.testing.assert_array_equal(got, want)
