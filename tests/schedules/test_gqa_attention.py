"""The attention kernel against dense fp64 attention: shapes, batches, masks, independence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm

from schedules.gqa_attention import gqa_attention_kernel
from schedules.gqa_shape import SEGMENT
from schedules.isa import isa_of
from tests.schedules.attention_calls import assert_close, make_case, run, sub_batch
from tests.schedules.kernel_harness import HOST_TARGETS

SHAPES = [
    # heads, kv_heads, head_dim, cache dtype: every group size, head_dim and dtype, and odd ones.
    (3, 3, 32, "float16"),
    (4, 2, 48, "bfloat16"),
    (8, 2, 64, "float32"),
    (32, 2, 128, "float16"),
    (16, 1, 48, "bfloat16"),
    (7, 1, 80, "float32"),
    (24, 1, 16, "float16"),
    (4, 1, 32, "bfloat16"),
    (3, 3, 64, "bfloat16"),
    (32, 2, 128, "int8"),
    (3, 3, 48, "int8"),
    (7, 1, 80, "int8"),
    (40, 2, 96, "bfloat16"),
    (12, 1, 64, "int8"),
]

FEW = [0, 1, 2, 3, 10]
"""Of `SHAPES`, for targets that differ little from another."""

BATCHES = [
    # (new tokens, context with them) of every row
    [(1, 1)],
    [(1, 15), (1, 16), (1, 17), (1, 1), (1, 300)],
    [(15, 15), (16, 16), (17, 17), (1, 1)],
    [(70, 70)],
    [(5, 64), (0, 33), (1, 65), (0, 0), (33, 129), (2, 2)],
    [(1, 63), (2, 1000), (1, SEGMENT), (2, SEGMENT + 1), (1, 2 * SEGMENT - 1)],
]


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (name, shape)
        for name in HOST_TARGETS
        for shape in (SHAPES if name == "native" else [SHAPES[i] for i in FEW])
    ],
    ids=str,
)
def test_matches_dense_attention(target: str, shape: tuple[int, int, int, str]) -> None:
    for seed, batch in enumerate(BATCHES):
        case = make_case(shape, batch, padding=seed % 3, seed=seed)
        assert_close(run(shape, case, target), case, shape[3], target, batch=str(batch))


@pytest.mark.parametrize("shape", [SHAPES[i] for i in FEW], ids=str)
@pytest.mark.parametrize("target", HOST_TARGETS)
def test_batch_and_chunks_do_not_change_a_bit(
    shape: tuple[int, int, int, str], target: str
) -> None:
    batch = [(1, 40), (83, 83), (21, 100), (2, 17)]
    case = make_case(shape, batch)
    together = run(shape, case, target)
    for row, (count, _) in enumerate(batch):
        start = case.query_start[row]
        for chunk in (1, 7, 16, 83):
            for first in range(0, count, chunk):
                last = min(first + chunk, count)
                alone = run(shape, sub_batch(case, row, first, last), target)
                np.testing.assert_array_equal(alone, together[start + first : start + last])


def test_parallel_and_serial_agree_to_the_bit() -> None:
    """A large batch goes to the threads, its rows one by one do not."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    shape = (8, 2, 64, "float32")
    case = make_case(shape, [(1, 30 + row) for row in range(64)])
    together = run(shape, case)
    alone = [run(shape, sub_batch(case, row, 0, 1)) for row in range(64)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize(
    "shape", [(16, 1, 64, "bfloat16"), (2, 1, 32, "float32"), (16, 1, 64, "int8")], ids=str
)
def test_a_divided_context_does_not_change_a_bit(
    shape: tuple[int, int, int, str], target: str
) -> None:
    """Two long rows alone are divided among the threads; beside others they are not."""
    tvm.get_global_func("runtime.config_threadpool")(1, 2)
    long_rows = [(1, 3 * SEGMENT + 5), (3, 2 * SEGMENT)]
    case = make_case(shape, [*long_rows, *([(1, SEGMENT + 3)] * 20)])
    together = run(shape, case, target)
    alone = replace(
        case,
        query=case.query[:4],
        page_table=case.page_table[:2],
        query_start=case.query_start[:3],
        kv_lens=case.kv_lens[:2],
    )
    np.testing.assert_array_equal(run(shape, alone, target), together[:4])
    assert_close(together, case, shape[3], target)


def test_tokens_of_no_row_and_without_context_are_zero() -> None:
    shape = (4, 2, 48, "bfloat16")
    case = make_case(shape, [(3, 0), (2, 2)], padding=4)
    out = run(shape, case)
    assert not out[:3].any()
    assert out[3:5].all()
    assert not out[5:].any()


def test_no_token_of_any_row() -> None:
    shape = (4, 2, 48, "bfloat16")
    for padding in (0, 5):
        out = run(shape, make_case(shape, [(0, 20)], padding=padding))
        assert len(out) == padding
        assert not out.any()


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 40), (5, 2, 64)])
def test_refuses_shapes_it_has_no_tile_for(heads: int, kv_heads: int, head_dim: int) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 16"):
        gqa_attention_kernel(
            heads, kv_heads, head_dim, "float32", 1.0, isa_of(HOST_TARGETS["generic"])
        )
