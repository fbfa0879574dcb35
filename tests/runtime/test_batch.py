from __future__ import annotations

import numpy as np
import pytest

from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.batch import Row, make_batch
from tvm_vacc.runtime.kv_cache import PagePool, Sequence


def test_rows_of_different_lengths_stand_one_after_the_other() -> None:
    pool = PagePool(8)
    old, new = Sequence(), Sequence()
    pool.extend(old, list(range(20)))
    batch = make_batch([Row(old, [7]), Row(new, [1, 2, 3], all_logits=True)], pool)
    np.testing.assert_array_equal(batch.input_ids, [7, 1, 2, 3])
    np.testing.assert_array_equal(batch.position_ids, [20, 0, 1, 2])
    np.testing.assert_array_equal(batch.query_start, [0, 1, 4])
    np.testing.assert_array_equal(batch.kv_lens, [21, 3])
    np.testing.assert_array_equal(batch.logit_rows, [0, 1, 2, 3])
    np.testing.assert_array_equal(batch.page_table, [old.pages, [*new.pages, 0]])
    np.testing.assert_array_equal(batch.slots // 16, [old.pages[1], *[new.pages[0]] * 3])
    np.testing.assert_array_equal(batch.slots % 16, [4, 0, 1, 2])


def test_last_logits_only() -> None:
    batch = make_batch([Row(Sequence(), [1, 2, 3]), Row(Sequence(), [4, 5])], PagePool(8))
    np.testing.assert_array_equal(batch.logit_rows, [2, 4])


def test_a_row_too_many_leaves_every_sequence_as_it_was() -> None:
    pool = PagePool(2)
    first, second = Sequence(), Sequence()
    with pytest.raises(RequestError):
        make_batch([Row(first, [1] * 16), Row(second, [1] * 17)], pool)
    assert len(first) == len(second) == 0
    assert pool.free_pages == 2
