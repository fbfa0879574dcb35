from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import ir, relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.find_positions import FindPositions
from relay_passes.fuse_gqa_attention import FuseGqaAttention
from relay_passes.rewrite_kv_cache import RewriteKvCache
from tests.relay_passes.attention_graph import HEADS, WIDTH, attention
from tests.relay_passes.running import apply, run_main
from tvm_vacc.errors import PassError

Compute = Callable[[Any, Any, Any], relax.Expr]


def attended(compute: Compute | None) -> ir.IRModule:
    """A graph whose second result is the cosine of what `compute` makes of ``emit, seq, past``."""
    module = attention(positions_from=compute)
    for graph_pass in (Canonicalize(), RewriteKvCache(), FuseGqaAttention()):
        module = apply(graph_pass, module)
    return module


def arange(emit: Any, seq: Any, past: Any) -> relax.Expr:
    return emit(relax.op.arange(past, past + seq, 1, "int64"))


def length(emit: Any, dim: Any) -> relax.Expr:
    """A symbolic dimension as a tensor ``[1]``."""
    ones = emit(relax.op.full([dim], relax.const(1, "int32"), "int32"))
    return emit(relax.op.sum(ones, axis=[0], keepdims=True))


def int32_column(emit: Any, seq: Any, past: Any) -> relax.Expr:
    steps = emit(relax.op.reshape(emit(relax.op.arange(0, seq, 1, "int32")), [seq, 1]))
    seen = emit(relax.op.subtract(length(emit, past + seq), length(emit, seq)))
    return emit(relax.op.add(steps, seen))


def counted_ones(emit: Any, seq: Any, past: Any) -> relax.Expr:
    ones = emit(relax.op.full([1, past + seq], relax.const(1, "int64"), "int64"))
    counted = emit(relax.op.cumsum(ones, axis=1))
    tail = emit(
        relax.op.strided_slice(counted, [1], [past], [past + seq], [1], assume_inbound=True)
    )
    return emit(relax.op.subtract(tail, relax.const(1, "int64")))


@pytest.mark.parametrize("compute", [arange, int32_column, counted_ones])
def test_positions_are_read_from_the_input(compute: Compute) -> None:
    result = FindPositions().apply(attended(compute))
    assert result.matches
    names = [param.name for param in result.module["main"].params]
    assert names[:3] == ["input_ids", "position_ids", "slots"]
    rng = np.random.default_rng(0)
    positions = np.arange(100, 111)[None]  # not what the page table tells of
    cache = np.zeros((2, 2, WIDTH, 16), np.float32)
    got = run_main(
        result.module,
        {
            "input_ids": rng.integers(0, 50, (1, 11)),
            "position_ids": positions,
            "slots": (16 + np.arange(11)).astype(np.int32),
            "page_table": np.array([[1]], np.int32),
            "query_start": np.array([0, 11], np.int32),
            "kv_lens": np.array([11], np.int32),
            "cache.0.key": cache,
            "cache.0.value": cache.transpose(0, 1, 3, 2).copy(),
            "table": rng.standard_normal((50, 3 * HEADS * WIDTH), dtype=np.float32),
        },
    )[1]
    np.testing.assert_allclose(got.ravel(), np.cos(positions.ravel()), atol=1e-5)


def one_too_many(emit: Any, seq: Any, past: Any) -> relax.Expr:
    return emit(relax.op.arange(past + 1, past + seq + 1, 1, "int64"))


def backwards(emit: Any, seq: Any, past: Any) -> relax.Expr:
    steps = emit(relax.op.arange(1, seq + 1, 1, "int32"))
    return emit(relax.op.subtract(length(emit, past + seq), steps))


def clipped(emit: Any, seq: Any, past: Any) -> relax.Expr:
    return emit(relax.op.minimum(arange(emit, seq, past), relax.const(4000, "int64")))


def constant(emit: Any, seq: Any, past: Any) -> relax.Expr:
    ones = emit(relax.op.full([seq, past + seq], relax.const(1, "int64"), "int64"))
    return emit(relax.op.sum(ones, axis=[1]))


@pytest.mark.parametrize("compute", [one_too_many, backwards, constant])
def test_what_only_looks_like_positions_is_refused(compute: Compute) -> None:
    with pytest.raises(PassError, match="position_ids as an input"):
        FindPositions().apply(attended(compute))


def test_clipped_positions_stay_clipped() -> None:
    """The range inside is positions; what is made of it is not, and reads the input now."""
    module = FindPositions().apply(attended(clipped)).module
    assert "minimum" in module.script()


def test_a_graph_that_computes_no_positions_stays() -> None:
    module = attended(None)
    result = FindPositions().apply(module)
    assert result.matches == 0
    ir.assert_structural_equal(result.module, module)


def test_a_graph_without_attention_stays() -> None:
    module = Canonicalize().apply(attention()).module
    assert FindPositions().apply(module).matches == 0
