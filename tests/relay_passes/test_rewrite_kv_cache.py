from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from relay_passes.canonicalize import Canonicalize
from relay_passes.count_ops import count_ops
from relay_passes.rewrite_kv_cache import RewriteKvCache
from tests.relay_passes.attention_graph import WIDTH, attention
from tests.relay_passes.running import apply


def test_caches_become_parameters_and_presents_leave() -> None:
    module = apply(Canonicalize(), attention(layers=2))
    result = RewriteKvCache(dtype="bfloat16").apply(module)
    assert result.matches == 2
    assert count_ops(result.module) == {"kv_append": 2, "kv_gather": 2}
    main = result.module["main"]
    assert [param.name for param in main.params] == [
        "input_ids", "position_ids", "slots", "page_table", "query_start", "kv_lens",
        "cache.0.key", "cache.0.value", "cache.1.key", "cache.1.value", "table",
    ]  # fmt: skip
    assert int(main.attrs["num_input"]) == 10
    key, value = main.params[6].ty, main.params[7].ty
    assert (key.dtype, value.dtype) == ("bfloat16", "bfloat16")
    assert [int(size) for size in list(key.shape)[1:]] == [2, WIDTH // 2, 32]
    assert [int(size) for size in list(value.shape)[1:]] == [2, 8, WIDTH * 2]
    assert int(main.params[0].ty.shape[0]) == 1
    assert isinstance(main.ret_ty, relax.TupleType)
    assert len(main.ret_ty.fields) == 2


@pytest.mark.parametrize(
    "near_miss",
    [
        {"returned": False},
        {"layers": 2, "values_of": "first layer"},
        {"softmax_axis": 2},
        {"repeat": "all"},
        {"width": 8},
    ],
    ids=str,
)
def test_near_misses_stay(near_miss: dict[str, Any]) -> None:
    module = apply(Canonicalize(), attention(**near_miss))
    result = RewriteKvCache().apply(module)
    assert result.matches == 0
    assert result.module.script() == module.script()
