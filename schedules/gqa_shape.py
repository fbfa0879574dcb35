"""How the attention kernel cuts its work: blocks of pages, tiles of tokens, register tiles."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.isa import Isa
from schedules.registers import largest_divisor
from tvm_vacc.limits import PAGE_SIZE

BLOCK_PAGES = 4
"""Pages a softmax step: the values of 64 positions (16 KiB in fp16 at head_dim 128) stay in L1."""

BLOCK = BLOCK_PAGES * PAGE_SIZE

TILE_ROWS = 16
"""Rows a tile of several tokens aims at, so that they share the pages in L1."""


@dataclass(frozen=True)
class TileShape:
    """How many rows a tile has and how they are cut into register tiles.

    Attributes:
        tokens: tokens a tile, at most.
        group: query heads a KV head.
        head_dim: a multiple of 16.
        register_rows: rows whose accumulators are in registers at a time.
        score_pages: pages (vectors of 16 positions) of one register tile of scores.
        value_vectors: vectors of 16 of head_dim of one register tile of the output.
        isa: the instruction set it was cut for.
    """

    tokens: int
    group: int
    head_dim: int
    register_rows: int
    score_pages: int
    value_vectors: int
    isa: Isa

    @property
    def rows(self) -> int:
        """Rows of the scratch buffers: whole register tiles."""
        return -(-self.tokens * self.group // self.register_rows) * self.register_rows


def tile_shape(group: int, head_dim: int, isa: Isa) -> TileShape:
    """Choose the register tile: three quarters of the registers accumulate, as many rows as fit.

    A vector of keys or values is loaded and converted once a register tile, so rows come first:
    16 x 1 for GLM's 16 heads a KV head reaches 103 of 118 GFLOPS on a Zen 4 core in decode and 92
    in prefill, 4 x 4 for 4 heads 85 and 77. Four rows at least, so that small groups are quick in
    prefill with the same code; decode of single heads pays with three quarters of its arithmetic.
    """
    accumulators = max(2, isa.registers * 3 // 4 * isa.lanes // PAGE_SIZE)
    most_rows = min(accumulators, 16)
    rows = max(min(4, most_rows), -(-group // -(-group // most_rows)))
    vectors = accumulators // rows
    return TileShape(
        tokens=max(1, TILE_ROWS // group),
        group=group,
        head_dim=head_dim,
        register_rows=rows,
        score_pages=largest_divisor(BLOCK_PAGES, vectors),
        value_vectors=largest_divisor(head_dim // PAGE_SIZE, vectors),
        isa=isa,
    )
