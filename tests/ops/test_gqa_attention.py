"""The attention operator in a graph; its arithmetic is tested in tests/schedules."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from schedules.kv_cache import key_cache_shape, value_cache_shape
from tests.ops.harness import host_targets, run_op, target_name, to_numpy, to_tvm
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.ops import gqa_attention, kv_append

HEADS, KV_HEADS, HEAD_DIM, SCALE = 4, 2, 32, 32**-0.5


def tensor(*shape: object, dtype: str = "float32") -> relax.TensorType:
    return relax.TensorType(list(shape), dtype)


def test_reference_of_one_head_by_hand() -> None:
    """Two positions whose scores are 0 and ln 3: weights 1/4 and 3/4."""
    query = np.zeros((1, 1, 1, 16), np.float32)
    query[..., 0] = 1
    key_cache = np.zeros(key_cache_shape(1, 1, 16, "float32"), np.float32)
    key_cache[0, 0, 0, 1] = 2 * np.log(3)
    value_cache = np.zeros(value_cache_shape(1, 1, 16, "float32"), np.float32)
    value_cache[0, 0, 0], value_cache[0, 0, 1] = 4, 8
    index = [np.array([[0]], np.int32), np.array([0, 1], np.int32), np.array([2], np.int32)]
    got = gqa_attention.reference(query, key_cache, value_cache, *index, scale=0.5)
    np.testing.assert_allclose(got, np.full_like(query, 7), rtol=1e-6)


@pytest.mark.parametrize("leading", [(1, 7), (7, 1)])
def test_matches_reference(leading: tuple[int, int]) -> None:
    """Three rows of 4, 0 and 2 tokens and one token of padding, in either form of the batch."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((*leading, HEADS, HEAD_DIM), dtype=np.float32),
        *(
            rng.standard_normal(shape(8, KV_HEADS, HEAD_DIM, "bfloat16")).astype(ml_dtypes.bfloat16)
            for shape in (key_cache_shape, value_cache_shape)
        ),
        rng.permutation(8)[:6].reshape(3, 2).astype(np.int32),
        np.array([0, 4, 4, 6], np.int32),
        np.array([20, 5, 2], np.int32),
    ]
    got = run_op(gqa_attention, arrays, scale=SCALE, products="bf16")
    want = gqa_attention.reference(*arrays, scale=SCALE)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("target", "products"),
    [("llvm", "bf16"), *((target, "fp32") for target in host_targets())],
    ids=lambda value: value if isinstance(value, str) else target_name(value),
)
def test_one_graph_appends_and_attends_at_any_size(target: Any, products: str) -> None:
    """Symbolic tokens, pages and rows; the caches passed in hold the new positions afterwards.

    Exact to fp32: no target rounds queries or weights where products are fp32.
    """
    tokens, pages, rows, row_pages = (
        tirx.Var(name, "int64") for name in ("tokens", "pages", "rows", "row_pages")
    )
    types = {
        "query": tensor(1, tokens, HEADS, HEAD_DIM),
        "key": tensor(1, tokens, KV_HEADS, HEAD_DIM),
        "value": tensor(1, tokens, KV_HEADS, HEAD_DIM),
        "slots": tensor(tokens, dtype="int32"),
        "page_table": tensor(rows, row_pages, dtype="int32"),
        "query_start": tensor(rows + 1, dtype="int32"),
        "kv_lens": tensor(rows, dtype="int32"),
        "key_cache": tensor(
            *key_cache_shape(pages, KV_HEADS, HEAD_DIM, "float16"), dtype="float16"
        ),
        "value_cache": tensor(
            *value_cache_shape(pages, KV_HEADS, HEAD_DIM, "float16"), dtype="float16"
        ),
    }
    var = {name: relax.Var(name, ty) for name, ty in types.items()}
    builder = relax.BlockBuilder()
    with builder.function("main", list(var.values())):
        with builder.dataflow():
            caches = builder.emit(
                kv_append(*(var[n] for n in ("key_cache", "value_cache", "key", "value", "slots")))
            )
            index = [var[name] for name in ("page_table", "query_start", "kv_lens")]
            out = builder.emit_output(
                gqa_attention(
                    var["query"], caches[0], caches[1], *index, scale=SCALE, products=products
                )
            )
        builder.emit_func_output(out)
    main = relax.VirtualMachine(
        tvm.compile(builder.get(), target=tvm.target.Target(target), tir_pipeline=NAME),
        tvm.cpu(),
    )["main"]

    rng = np.random.default_rng(0)
    for lens in ([1], [3, 33]):
        count, width = sum(lens), 3
        page_count = len(lens) * width
        page_table = rng.permutation(page_count).reshape(len(lens), width).astype(np.int32)
        slots = np.concatenate(
            [
                page_table[row, np.arange(length) // 16] * 16 + np.arange(length) % 16
                for row, length in enumerate(lens)
            ]
        ).astype(np.int32)
        new = [
            rng.standard_normal((1, count, heads, HEAD_DIM), dtype=np.float32)
            for heads in (HEADS, KV_HEADS, KV_HEADS)
        ]
        index = [
            page_table,
            np.cumsum([0, *lens]).astype(np.int32),
            np.array(lens, np.int32),
        ]
        caches = [
            np.full(shape(page_count, KV_HEADS, HEAD_DIM, "float16"), np.nan, np.float16)
            for shape in (key_cache_shape, value_cache_shape)
        ]
        tensors = [to_tvm(cache) for cache in caches]
        got = to_numpy(main(*map(to_tvm, [*new, slots, *index]), *tensors))
        written = kv_append.reference(*caches, new[1], new[2], slots)
        for cache, want in zip(tensors, written, strict=True):
            np.testing.assert_array_equal(to_numpy(cache), want)
        want = gqa_attention.reference(new[0], *written, *index, scale=SCALE)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("heads", "cache_heads", "dtypes"),
    [(5, 2, ("float16", "float16")), (4, 2, ("int8", "int8")), (4, 2, ("float16", "float32"))],
)
def test_type_errors(heads: int, cache_heads: int, dtypes: tuple[str, str]) -> None:
    types = [
        tensor(1, 2, heads, HEAD_DIM),
        tensor(*key_cache_shape(3, cache_heads, HEAD_DIM, "float16"), dtype=dtypes[0]),
        tensor(*value_cache_shape(3, cache_heads, HEAD_DIM, "float16"), dtype=dtypes[1]),
        tensor(1, 3, dtype="int32"),
        tensor(2, dtype="int32"),
        tensor(1, dtype="int32"),
    ]
    arguments = [relax.Var(f"arg{i}", ty) for i, ty in enumerate(types)]
    with pytest.raises(TypeError, match="gqa_attention"):
        relax.BlockBuilder().normalize(gqa_attention(*arguments, scale=1.0, products="bf16"))
