from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes import causal_mask
from relay_passes.canonicalize import Canonicalize
from relay_passes.count_ops import count_ops
from relay_passes.fuse_gqa_attention import FuseGqaAttention
from relay_passes.rewrite_kv_cache import RewriteKvCache
from relay_passes.rewriter import rebuild, replace_main
from tests.relay_passes.attention_graph import HEADS, SCALE, WIDTH, attention
from tests.relay_passes.running import apply, run_main


def paged(**changes: Any) -> ir.IRModule:
    return apply(RewriteKvCache(), apply(Canonicalize(), attention(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask": "from shapes"},
        {"mask": "where"},
        {"mask": "inverted where"},
        {"mask": "infinite", "scale_on": "query"},
        {"scale_on": "key, divided", "kv_heads": 1},
        {"scale_on": "scores, divided", "kv_heads": 4},
    ],
    ids=str,
)
def test_fuses_and_keeps_the_value(changes: dict[str, Any]) -> None:
    result = FuseGqaAttention().apply(paged(**changes))
    assert result.matches == 1
    assert count_ops(result.module)["gqa_attention"] == 1
    kv_heads = changes.get("kv_heads", 2)
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 3 * HEADS * WIDTH), dtype=np.float32)
    ids = rng.integers(0, 50, (1, 11))
    cache = np.zeros((2, kv_heads, WIDTH, 16), np.float32)
    got = run_main(
        result.module,
        {
            "input_ids": ids,
            "position_ids": np.arange(11)[None],
            "slots": (16 + np.arange(11)).astype(np.int32),
            "page_table": np.array([[1]], np.int32),
            "query_start": np.array([0, 11], np.int32),
            "kv_lens": np.array([11], np.int32),
            "cache.0.key": cache,
            "cache.0.value": cache.transpose(0, 1, 3, 2).copy(),
            "table": table,
        },
    )[0]
    np.testing.assert_allclose(got, dense(table[ids], kv_heads), atol=1e-5)


def dense(rows: np.ndarray, kv_heads: int) -> np.ndarray:
    """Causal attention in NumPy over ``rows [1, seq, 3 * HEADS * WIDTH]``."""
    query, key, value = (part.reshape(1, -1, HEADS, WIDTH) for part in np.split(rows, 3, axis=-1))
    key, value = (np.repeat(x[:, :, :kv_heads], HEADS // kv_heads, axis=2) for x in (key, value))
    scores = np.einsum("bshd,bthd->bhst", query, key) * SCALE
    scores[..., ~np.tri(scores.shape[-1], dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhst,bthd->bhsd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize(
    "near_miss",
    [
        {"mask": "none"},
        {"mask": "strict"},
        {"mask": "window 8"},
        {"mask": "window 4096"},
        {"mask": "prefix"},
        {"mask": "weak"},
        {"mask": "softcap"},
        {"mask": "alibi"},
        {"softmax_axis": 2},
    ],
    ids=str,
)
def test_near_misses_stay(near_miss: dict[str, Any]) -> None:
    graph = apply(RewriteKvCache(), apply(Canonicalize(), attention(**near_miss)))
    assert FuseGqaAttention().apply(graph).matches == 0


def test_one_mask_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    measure = causal_mask._measured_scale
    monkeypatch.setattr(
        causal_mask, "_measured_scale", lambda function: judged.append(1) or measure(function)
    )
    assert FuseGqaAttention().apply(paged(layers=3)).matches == 3
    assert len(judged) == 1


def test_swapped_dense_views_stay() -> None:
    """Attention that reads the gathered values as keys is another computation."""
    module = paged()

    def swap(graph: Any, expr: relax.Expr) -> relax.Expr | None:
        if not isinstance(expr, relax.TupleGetItem):
            return None
        if graph.call(expr.tuple_value, "tvm_vacc.kv_gather") is None:
            return None
        return relax.TupleGetItem(expr.tuple_value, 1 - expr.index)

    swapped = replace_main(module, rebuild(module["main"], swap))
    assert FuseGqaAttention().apply(swapped).matches == 0
