"""Intel AMX for TIR kernels: products of 16 x 64 byte tiles that stand in memory.

TVM knows no tile registers, but their instructions name them by number and take addresses:
`multiply_tiles` multiplies a few tiles of rows by a few of columns over all of a chunk, its sums in
registers meanwhile. Only for a target whose `Isa.tiles` is true, and between
`begin_tiles` and `end_tiles` of the same thread.

Of an operand A, a tile is 16 rows of 64 consecutive bytes; of B, 16 consecutive steps of four bytes
for each of 16 columns; of the sums, 16 rows of 16 columns of 32 bits (Intel 64 and IA-32
Architectures Software Developer's Manual, TDPBSUD, TDPBF16PS). Two by two tiles take one load a
product, which hides behind it: 16 cycles a product, 8 a load from the first-level cache. So do one
by four, whose long side is best near: four sums, as a product takes 52 cycles until the next one
of its sum may begin.

Linux gives a process the registers when it asks (``arch_prctl``, Documentation/arch/x86/xstate.rst
of the kernel), or the first tile instruction would kill it: `require_tiles` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

ROWS = 16
"""Rows of a tile of A and of sums."""

STEPS = 16
"""Steps of four bytes a tile of A or B."""

COLUMNS = 16
"""Columns of a tile of B and of sums."""

ROW_BYTES = 64
"""Bytes of a tile's row: a cache line."""

DENIED = (
    "the system gives this process no AMX tiles; compile for a processor without them, "
    "or with -mattr=-amx-tile"
)

MOST_SUMS = 4
"""Tiles of sums that a product keeps in registers; the other four hold operands."""

_REGISTERS = 8

# Palette 1, first row 0, 14 reserved bytes; bytes a row (16 bits) and rows of each register.
_CONFIG = (1, *[0] * 15, *[ROW_BYTES, 0] * 8, *[0] * 16, *[ROWS] * 8, *[0] * 8)
_CONFIG_BYTES = len(_CONFIG)

_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


@dataclass(frozen=True)
class TileProduct:
    """A product instruction, and the layout of the B that it is used for.

    Attributes:
        instruction: name of LLVM's intrinsic.
        sums: dtype of the sums.
        b_stride: bytes between the steps of B: four a column, tiles side by side.
    """

    instruction: str
    sums: str
    b_stride: int


BYTES = TileProduct("tdpbsud", "int32", b_stride=128)
"""int8 rows times uint8 columns, exact; 32 columns side by side."""

BF16 = TileProduct("tdpbf16ps", "float32", b_stride=256)
"""bf16 in pairs, 64 columns side by side. In a tile's 16 steps the first and the second values of
all pairs are summed apart, in order; then both are added, and that to the sum; subnormal numbers
count as zero."""


def require_tiles() -> None:
    """Emit the request for the tile registers: the kernel fails where the system denies them."""
    arguments = (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    result = tirx.call_extern("int64", "syscall", *map(T.int64, arguments))
    with T.Assert(result == 0, DENIED):
        pass


def begin_tiles() -> None:
    """Emit the configuration of this thread's tile registers (some 120 cycles)."""
    config = T.alloc_buffer((_CONFIG_BYTES,), "uint8")
    for index, value in enumerate(_CONFIG):
        T.buffer_store(config, T.uint8(value), [index])
    call_tile("ldtilecfg", T.address_of(config[0]))


def end_tiles() -> None:
    """Emit their release, or the system would save and restore 8 KiB at each switch of threads."""
    call_tile("tilerelease")


def multiply_tiles(
    product: TileProduct,
    row_tiles: int,
    column_tiles: int = 2,
    *,
    a: Callable[[int, Any], Any],
    a_stride: int,
    b: Callable[[int, Any], Any],
    sums: Callable[[int, int], Any],
    sums_stride: int,
    length: Any,
    fresh: Any,
    meanwhile: Callable[[Any], None] = lambda _k: None,
    when: Any = None,
) -> None:
    """Emit ``sums = (fresh ? 0 : sums) + A B`` for a few tiles of rows and of columns.

    Args:
        product: of which dtypes.
        row_tiles: times `column_tiles` at most `MOST_SUMS`.
        column_tiles: the same.
        a: returns the first element of a tile of (tile of rows, tile along the steps).
        a_stride: bytes between rows.
        b: returns that of (tile of columns, tile along the steps).
        sums: returns that of (tile of rows, tile of columns), 32 bits each.
        sums_stride: bytes between rows.
        length: tiles along the steps.
        fresh: whether the sums hold nothing yet.
        meanwhile: emits what else happens in a step.
        when: whether there is anything to multiply: nothing but `meanwhile` happens where it is
            false; None: always.
    """
    places = [(row, column) for row in range(row_tiles) for column in range(column_tiles)]

    def sums_of(row: int, column: int) -> int:
        return row * column_tiles + column

    def move(operation: str) -> None:
        for row, column in places:
            address = T.address_of(sums(row, column))
            call_tile(operation, sums_of(row, column), address, T.int64(sums_stride))

    with _where(when), T.If(fresh):
        with T.Then():
            for row, column in places:
                call_tile("tilezero", sums_of(row, column))
        with T.Else():
            move("tileloadd64")
    # The shorter side's tiles stay for a step, those of the other pass through what is left.
    rows_stay = row_tiles <= column_tiles
    stay = min(row_tiles, column_tiles)
    passing = _REGISTERS - MOST_SUMS - stay
    with T.serial(0, length) as k:

        def load_a(register: int, row: int) -> None:
            call_tile("tileloadd64", register, T.address_of(a(row, k)), T.int64(a_stride))

        def load_b(register: int, column: int) -> None:
            address = T.address_of(b(column, k))
            call_tile("tileloadd64", register, address, T.int64(product.b_stride))

        load_staying, load_passing = (load_a, load_b) if rows_stay else (load_b, load_a)
        with _where(when):
            # A tile is loaded right before its first product, so that products begin early.
            for i in range(max(row_tiles, column_tiles)):
                passer = MOST_SUMS + stay + i % passing
                load_passing(passer, i)
                for j in range(stay):
                    stayer = MOST_SUMS + j
                    if i == 0:
                        load_staying(stayer, j)
                    row, column = (j, i) if rows_stay else (i, j)
                    operands = (stayer, passer) if rows_stay else (passer, stayer)
                    call_tile(product.instruction, sums_of(row, column), *operands)
        meanwhile(k)
    with _where(when):
        move("tilestored64")


@contextmanager
def _where(condition: Any) -> Iterator[None]:
    """What is emitted within happens where `condition` is true; None: always."""
    if condition is None:
        yield
        return
    with T.If(condition), T.Then():
        yield


def call_tile(name: str, *arguments: Any) -> None:
    """Emit one instruction, by the end of its name in LLVM; int arguments are tile registers."""
    operands = (T.int8(word) if isinstance(word, int) else word for word in arguments)
    T.evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *operands))
