from __future__ import annotations

import numpy as np
from tvm import relax

from tests.relay_passes.build import module
from tests.relay_passes.running import run_main
from tests.schedules.paged_caches import (
    int8_key_cache_of,
    int8_value_cache_of,
    key_cache_of,
    value_cache_of,
)
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


def test_codes_become_numbers_again() -> None:
    """Within half a step of what was written; for keys, of the sum of the steps of a head."""
    rng = np.random.default_rng(0)
    key_PTKD, value_PTKD = rng.standard_normal((2, 5, 16, 2, 48), dtype=np.float32)
    key, value = int8_key_cache_of(key_PTKD), int8_value_cache_of(value_PTKD)
    table = np.array([[3, 0, 4]], np.int32)
    shape = (1, 2, 48, 48)

    def body(emit, k: relax.Var, v: relax.Var, rows: relax.Var) -> list[relax.Expr]:  # type: ignore[no-untyped-def]
        dense = emit(kv_gather(k, v, rows, relax.ShapeExpr(shape)))
        return [emit(relax.TupleGetItem(dense, 0)), emit(relax.TupleGetItem(dense, 1))]

    shapes = {"k": key.shape, "v": value.shape, "rows": table.shape}
    built = module(shapes, {}, body, {"k": "int8", "v": "int8", "rows": "int32"})
    legalized = run_main(built, {"k": key, "v": value, "rows": table})
    reference = kv_gather.reference(key, value, table, shape)
    for got in (legalized, reference):
        for dense, rows_PTKD, steps in zip(got, (key_PTKD, value_PTKD), (3, 1), strict=True):
            want = rows_PTKD[table[0]].reshape(48, 2, 48).swapaxes(0, 1)[None]
            assert np.abs(dense - want).max() < 0.5 * steps * np.abs(want).max() / 127
