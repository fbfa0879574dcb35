from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from benchmarks.glm4_9b import SPEC
from benchmarks.peers.protocol import Description
from benchmarks.work import bytes_of, decode_point, operations_of, prefill_point
from tvm_vacc.frontend.glm_layout import EMBEDDING, tensor_shapes

SMALL = replace(SPEC, layers=3, hidden=64, heads=4, kv_heads=2, intermediate=96)


@pytest.mark.parametrize(("batch", "context", "new"), [(1, 0, 17), (1, 100, 1), (3, 50, 1)])
def test_operations_are_those_of_every_tensor(batch: int, context: int, new: int) -> None:
    point = prefill_point(new) if context == 0 else decode_point(context, batch)
    expected = 0
    for name, shape in tensor_shapes(SMALL):
        if len(shape) == 2 and name != EMBEDDING:
            expected += 2 * prod(shape) * (batch if name == "lm_head.weight" else batch * new)
    for token in range(new):
        expected += batch * SMALL.layers * SMALL.heads * 4 * SMALL.head_dim * (context + token + 1)
    assert operations_of(point, SMALL) == expected


def test_bytes_are_weights_and_the_cache() -> None:
    description = Description("x", "", {}, 1000, 10, "bf16", 4096)
    assert bytes_of(decode_point(7, 2), description) == 1000 + 10 * (2 * 7 + 2)
    assert bytes_of(prefill_point(5), description) == 1000 + 10 * 5
