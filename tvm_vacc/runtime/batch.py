"""One step's batch as the plain tensors that the compiled function takes."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np

from tvm_vacc.runtime.kv_cache import PagePool, Sequence


@dataclass(frozen=True)
class Row:
    """New tokens of one sequence.

    Attributes:
        sequence: whose cache the tokens are appended to.
        tokens: at least one token id.
        all_logits: whether logits of every token are wanted, or of the last one only.
    """

    sequence: Sequence
    tokens: list[int]
    all_logits: bool = False


@dataclass(frozen=True)
class Batch:
    """Arguments of the compiled ``forward``; see docs/architecture.md for their meaning.

    Attributes:
        input_ids: ``[tokens]`` int64.
        position_ids: ``[tokens]`` int64.
        slots: ``[tokens]`` int32.
        page_table: ``[rows, pages]`` int32.
        query_start: ``[rows + 1]`` int32.
        kv_lens: ``[rows]`` int32.
        logit_rows: ``[outputs]`` int32.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    slots: np.ndarray
    page_table: np.ndarray
    query_start: np.ndarray
    kv_lens: np.ndarray
    logit_rows: np.ndarray

    def arrays(self) -> list[np.ndarray]:
        """Return the arguments in the order of ``forward``."""
        return [
            self.input_ids,
            self.position_ids,
            self.slots,
            self.page_table,
            self.query_start,
            self.kv_lens,
            self.logit_rows,
        ]


def make_batch(rows: Rows[Row], pool: PagePool) -> Batch:
    """Append the rows' tokens to their sequences and describe the step.

    Raises:
        RequestError: the pool is too small for all rows; then no sequence has changed.
    """
    before = [len(row.sequence) for row in rows]
    slots: list[int] = []
    try:
        for row in rows:
            slots.extend(pool.extend(row.sequence, row.tokens))
    except BaseException:
        for row, length in zip(rows, before, strict=True):
            pool.truncate(row.sequence, length)
        raise
    counts = [len(row.tokens) for row in rows]
    query_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    page_table = np.zeros((len(rows), max(len(row.sequence.pages) for row in rows)), np.int32)
    for table, row in zip(page_table, rows, strict=True):
        table[: len(row.sequence.pages)] = row.sequence.pages
    logit_rows = [
        token
        for index, row in enumerate(rows)
        for token in range(
            query_start[index] if row.all_logits else query_start[index + 1] - 1,
            query_start[index + 1],
        )
    ]
    positions = [np.arange(n) + start for n, start in zip(counts, before, strict=True)]
    return Batch(
        input_ids=np.array([token for row in rows for token in row.tokens], np.int64),
        position_ids=np.concatenate(positions).astype(np.int64),
        slots=np.array(slots, np.int32),
        page_table=page_table,
        query_start=query_start,
        kv_lens=np.array([len(row.sequence) for row in rows], np.int32),
        logit_rows=np.array(logit_rows, np.int32),
    )
