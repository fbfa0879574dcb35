from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_vacc.errors import RequestError
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.runtime.kv_cache import PagePool, Sequence


def slots_of(sequence: Sequence) -> list[int]:
    return [
        sequence.pages[position // PAGE_SIZE] * PAGE_SIZE + position % PAGE_SIZE
        for position in range(len(sequence))
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.one_of(st.integers(1, 40), st.integers(-40, 0))),
        max_size=30,
    )
)
def test_sequences_never_share_a_slot_and_no_page_is_lost(
    actions: list[tuple[int, int]],
) -> None:
    pages = 6
    pool = PagePool(pages)
    sequences = [Sequence() for _ in range(3)]
    model: list[list[int]] = [[], [], []]
    counter = 0
    for which, amount in actions:
        sequence = sequences[which]
        if amount > 0:
            tokens = list(range(counter, counter + amount))
            counter += amount
            before = len(sequence)
            try:
                slots = pool.extend(sequence, tokens)
            except RequestError:
                assert len(sequence) == before
                continue
            model[which] += tokens
            assert slots == slots_of(sequence)[before:]
        else:
            length = max(0, len(sequence) + amount)
            pool.truncate(sequence, length)
            del model[which][length:]
        assert [sequence.tokens for sequence in sequences] == model
        used = [page for sequence in sequences for page in sequence.pages]
        assert len(set(used)) == len(used)
        assert pool.free_pages + len(used) == pages
        for sequence in sequences:
            assert len(sequence.pages) == -(-len(sequence) // PAGE_SIZE)


def test_a_full_pool_says_what_is_needed() -> None:
    pool = PagePool(1)
    with pytest.raises(RequestError, match="1 free pages of 16 tokens, 2 are needed"):
        pool.extend(Sequence(), list(range(17)))
