from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from benchmarks.glm4_9b import SPEC
from benchmarks.peers.protocol import Description
from benchmarks.work import decode_point, parts_of, prefill_point
from tvm_vacc.frontend.glm_layout import EMBEDDING, tensor_shapes

SMALL = replace(SPEC, layers=3, hidden=64, heads=4, kv_heads=2, intermediate=96)


DESCRIPTION = Description("x", "", {}, 1000, 10, "int8", 4096, (), 300, "bf16", "fp32")


@pytest.mark.parametrize(("batch", "context", "new"), [(1, 0, 17), (1, 100, 1), (3, 50, 1)])
def test_operations_are_those_of_every_tensor(batch: int, context: int, new: int) -> None:
    point = prefill_point(new) if context == 0 else decode_point(context, batch)
    layers, head, attention = parts_of(point, DESCRIPTION, SMALL)
    matrices = {
        name: 2 * prod(shape)
        for name, shape in tensor_shapes(SMALL)
        if len(shape) == 2 and name != EMBEDDING
    }
    assert head.operations == batch * matrices.pop("lm_head.weight")
    assert layers.operations == batch * new * sum(matrices.values())
    looked_at = sum(context + token + 1 for token in range(new))
    assert (
        attention.operations == batch * looked_at * SMALL.layers * SMALL.heads * 4 * SMALL.head_dim
    )
    assert (layers.unit, head.unit, attention.unit) == ("int8", "bf16", "fp32")


def test_bytes_are_weights_and_the_cache() -> None:
    decode = parts_of(decode_point(7, 2), DESCRIPTION, SMALL)
    assert [part.bytes for part in decode] == [700, 300, 10 * (2 * 7 + 2)]
    prefill = parts_of(prefill_point(5), DESCRIPTION, SMALL)
    assert [part.bytes for part in prefill] == [700, 300, 10 * 5]


def test_one_unit_where_nothing_else_is_said() -> None:
    plain = Description("x", "", {}, 1000, 10, "bf16", 4096)
    parts = parts_of(prefill_point(5), plain, SMALL)
    assert {part.unit for part in parts} == {"bf16"}
    assert parts[0].bytes == 1000
