"""How the attention kernel cuts its work: segments and blocks of positions, tiles of rows."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.isa import Isa, amx
from schedules.registers import largest_divisor
from tvm_vacc.limits import PAGE_SIZE

BLOCK_PAGES = 8
"""Pages a softmax step. 128 positions: keys, then values, are 32 KiB in 16 bits at head_dim 128,
and what is done once a row and block is 3 % cheaper than with 64."""

BLOCK = BLOCK_PAGES * PAGE_SIZE

SEGMENT = 512
"""Positions that are summed up on their own, whoever computes them; the sums of segments are added
in ascending order. So a long context can be divided among threads without changing a bit."""


@dataclass(frozen=True)
class AttentionTiles:
    """How attention cuts its work; no choice changes a bit of its results.

    Attributes:
        tile_rows: rows a tile of several tokens aims at: what they share is read once from the
            outer caches.
        few_pieces: tiles times KV heads from which no context is divided: they keep the threads
            busy, and spare the storing and merging of partial sums, 3 to 8 % of the work.
        parallel_products: multiplications from which waking the other threads pays: 10 us of one
            core, a launch takes 7.
    """

    tile_rows: int = 64
    few_pieces: int = 16
    parallel_products: int = 1 << 20


@dataclass(frozen=True)
class AmxAttentionTiles(AttentionTiles):
    """The same in AMX.

    What a tile's rows share takes a larger part there: copying a block of values, and the turns of
    `schedules.gqa_amx` in which the first and the last group have no softmax beside them.
    """

    tile_rows: int = 512


@dataclass(frozen=True)
class VectorAttentionTiles(AttentionTiles):
    """The same in vector registers.

    Attributes:
        rows: most rows of a register tile, whose vectors take the registers that are left.
    """

    rows: int = 4


@dataclass(frozen=True)
class TileShape:
    """How many rows a tile has and how they are cut into register tiles.

    Attributes:
        tokens: tokens a tile, at most.
        group: query heads a KV head.
        token_rows: rows a token takes: `group`, or more where register tiles must come out even.
        head_dim: a multiple of 16.
        register_rows: rows whose accumulators are in registers at a time.
        score_pages: pages (vectors of 16 positions) of one register tile of scores.
        value_vectors: vectors of 16 of head_dim of one register tile of the output.
    """

    tokens: int
    group: int
    token_rows: int
    head_dim: int
    register_rows: int
    score_pages: int
    value_vectors: int

    @property
    def rows(self) -> int:
        """Rows of the scratch buffers: whole register tiles."""
        return -(-self.tokens * self.token_rows // self.register_rows) * self.register_rows


def tile_shape(
    group: int, head_dim: int, isa: Isa, accumulators: int, tiles: VectorAttentionTiles
) -> TileShape:
    """Choose the register tile: a few rows, and vectors for three quarters of the registers.

    Four by four needs eight loads for sixteen products; sixteen by one, seventeen, is a fifth
    slower on a Zen 4 core. Small groups put several tokens in a register tile in prefill, and
    leave rows of it unused in decode, which waits for memory. A sum that takes several
    `accumulators` takes as many of these vectors.
    """
    registers = vector_registers(isa)
    most_rows = min(registers, tiles.rows)
    rows = max(most_rows if group < most_rows else 1, -(-group // -(-group // most_rows)))
    vectors = registers // rows // accumulators
    token_rows = group if group < rows else -(-group // rows) * rows
    return TileShape(
        tokens=max(1, tiles.tile_rows // token_rows),
        group=group,
        token_rows=token_rows,
        head_dim=head_dim,
        register_rows=rows,
        score_pages=largest_divisor(BLOCK_PAGES, vectors),
        value_vectors=largest_divisor(head_dim // PAGE_SIZE, vectors),
    )


def vector_registers(isa: Isa) -> int:
    """Return how many vectors of sixteen sums a register tile may have."""
    return max(2, isa.registers * 3 // 4 * isa.lanes // PAGE_SIZE)


def amx_shape(group: int, head_dim: int, planes: int, tiles: AttentionTiles) -> TileShape:
    """Choose the shape of tiles in AMX: register tiles of 16 rows, each of one token.

    Args:
        group: query heads a KV head.
        head_dim: a multiple of 16.
        planes: tiles of A that a tile of rows takes.
        tiles: its choices.
    """
    columns = amx.MOST_SUMS // planes
    token_rows = -(-group // amx.ROWS) * amx.ROWS
    return TileShape(
        tokens=max(1, tiles.tile_rows // token_rows),
        group=group,
        token_rows=token_rows,
        head_dim=head_dim,
        register_rows=amx.ROWS,
        score_pages=columns,
        value_vectors=largest_divisor(head_dim // amx.COLUMNS, columns),
    )
