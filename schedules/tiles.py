"""How the kernels of linears cut their work: all that may be chosen otherwise, in one place.

Each loop nest has a frozen dataclass of its choices. `default_tiles` says what they are where
nothing was tuned, `alternatives` what else may be tried for a shape and an instruction set. No
choice touches the layout of packed weights or the order of a sum: results are the same, bit for
bit, and weights that were packed before fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from schedules.isa import Isa, amx
from schedules.linear_bf16_tile import products_in
from schedules.linear_tile import STEP_VALUES
from tvm_vacc.quantize.scheme import SCHEMES

FLOAT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of the weights that a float linear takes, by their dtype."""


@dataclass(frozen=True, order=True)
class Linear:
    """What the kernel of a linear is made for, a bias aside.

    Attributes:
        weights: a key of `FLOAT_BYTES`, or of `SCHEMES`.
        in_features: of the linear.
        out_features: of the linear.
        takes: ``float``, or the dtype of activations that are codes already.
        products: what weights of 16 bits are multiplied in, `bf16` where the target can, or `fp32`.
        group_size: inputs that share a scale; 0 where that is all of them.
    """

    weights: str
    in_features: int
    out_features: int
    takes: str = "float"
    products: str = "bf16"
    group_size: int = 0

    def __str__(self) -> str:
        grouped = f" in groups of {self.group_size}" if self.group_size else ""
        takes = f" of {self.takes}" if self.takes != "float" else ""
        fp32 = " by fp32" if self.weights in FLOAT_BYTES and self.products == "fp32" else ""
        return (
            f"linear {self.weights}{grouped}{takes}{fp32} {self.in_features}->{self.out_features}"
        )


@dataclass(frozen=True)
class FloatTiles:
    """Choices of `schedules.linear_float` in vector registers.

    Attributes:
        rows: most tokens of a register tile, whose channels take the registers that are left; the
            code has tiles of fewer tokens too.
        panel_tiles: full tiles a task: enough to pay for reading a chunk, and work for many cores.
        chunk_bytes: weights of a chunk of `in`: with the next one, which is on its way, a quarter
            of Zen 4's second level.
        parallel_products: multiplications from which a parallel launch (3.5 to 7 us) pays.
    """

    rows: int
    panel_tiles: int = 16
    chunk_bytes: int = 1 << 17
    parallel_products: int = 1 << 18

    @property
    def task_rows(self) -> int:
        """Tokens a task."""
        return self.panel_tiles * self.rows


@dataclass(frozen=True)
class IntegerTiles:
    """Choices of `schedules.integer_linear`.

    Attributes:
        rows: most rows of a register tile: 12 x 32 channels are 24 of AVX-512's 32 registers.
        panel_tiles: full tiles a task: enough to pay for reading a chunk, and work for many cores.
        chunk_steps: most steps of a chunk of `in`, of 128 bytes: 128 KiB of weights.
        prefetch_rows: rows from which a tile fetches ahead: all. On Zen 4 few rows gain nothing; a
            Xeon, left to its hardware, reads at 0.76 of the bandwidth for one row (in AVX2 0.55),
            and at 0.93 with what is 4 to 16 KiB ahead on its way.
        prefetch_steps: steps that weights are fetched ahead: 8 KiB.
        parallel_products: multiplications from which a parallel launch (3.5 to 7 us) pays.
    """

    rows: int = 12
    panel_tiles: int = 8
    chunk_steps: int = 1024
    prefetch_rows: int = 1
    prefetch_steps: int = 64
    parallel_products: int = 1 << 19

    @property
    def task_rows(self) -> int:
        """Rows a task."""
        return self.panel_tiles * self.rows


@dataclass(frozen=True)
class AmxTiles:
    """Choices of `schedules.amx_nest`.

    Attributes:
        panel_rows: rows a task, pairs of tiles: with a chunk of `in` 1 MiB, half of the
            second-level cache of a Xeon. While a block of weights passes them it takes the memory
            6 GB/s to bring the next.
        group_columns: columns a task: that many use the rows of a chunk, which come from the third
            level. Few rows take a block a task, work for many cores.
        chunk_tiles: most tiles along `in` of a chunk. Half as many, whose sums are stored and
            loaded twice as often, are slower by a tenth; parts that fit the first-level cache, by a
            fifth.
        few_rows_chunk_tiles: the same for one task's rows or fewer: what is fetched is one chunk
            ahead, at first not at all.
        streams: places from which memory is fetched in turn: several are faster than one.
        parallel_products: multiplications from which a parallel launch (3.5 to 7 us) pays.
    """

    panel_rows: int = 256
    group_columns: int = 256
    chunk_tiles: int = 64
    few_rows_chunk_tiles: int = 8
    streams: int = 4
    parallel_products: int = 1 << 18


@dataclass(frozen=True)
class ByteTiles(AmxTiles, IntegerTiles):
    """Choices of a kernel that has both nests, one for few rows and one for many.

    Attributes:
        fewest_rows: rows from which AMX tiles are faster (measured: equal at 4, a tenth at 5, a
            third at 16): 16 rows in a tile cost no more than reading the weights does.
    """

    parallel_products: int = IntegerTiles.parallel_products
    fewest_rows: int = 5


Tiles = FloatTiles | IntegerTiles | AmxTiles
"""The choices of a kernel."""

_DOT_ROWS, _FMA_ROWS, _INTEGER_ROWS = (12, 4, 6, 8), (6, 2, 3, 4), (12, 4, 6, 8, 16)
_VALUES: Mapping[str, tuple[int, ...]] = {
    "chunk_bytes": tuple(1 << power for power in range(14, 21)),
    "panel_tiles": (2, 4, 8, 16, 32),
    "chunk_steps": (128, 256, 512, 1024, 2048, 4096),
    "prefetch_rows": (1, 8),
    "prefetch_steps": (16, 32, 64, 128),
    "panel_rows": (64, 128, 256, 512),
    "group_columns": (64, 128, 256, 512),
    "chunk_tiles": (16, 32, 64, 128),
    "few_rows_chunk_tiles": (4, 8, 16, 32),
    "streams": (2, 4, 8),
    "parallel_products": tuple(1 << power for power in range(16, 23)),
    "fewest_rows": (1, 3, 5, 9, 17),
}
"""What a choice may be, whatever the shape; `rows` depends on the products."""


def sums_in_registers(isa: Isa) -> int:
    """Return how many vectors of integer sums a tile may hold: the rest is for its operands."""
    return isa.registers * 3 // 4


def float_tiles(
    weight_dtype: str, in_features: int, isa: Isa, products: str
) -> FloatTiles | AmxTiles:
    """Return the choices of a kernel of `schedules.linear_float` where nothing was tuned.

    In AMX tiles where `isa` has them for these products, and the pairs of `in` fill one.
    """
    if products_in(weight_dtype, products, isa) == "fp32":
        return FloatTiles(_FMA_ROWS[0])
    in_tiles = isa.tiles and -(-in_features // 2) >= amx.STEPS
    return AmxTiles() if in_tiles else FloatTiles(_DOT_ROWS[0])


def int8_tiles(in_features: int, isa: Isa) -> IntegerTiles:
    """Return the same for kernels over int8 weights, in AMX tiles where `in` fills one."""
    return ByteTiles() if isa.tiles and in_features >= amx.ROW_BYTES else IntegerTiles()


def default_tiles(linear: Linear, isa: Isa) -> Tiles:
    """Return what the kernel of a linear chooses where nothing was tuned."""
    if linear.weights in FLOAT_BYTES:
        return float_tiles(linear.weights, linear.in_features, isa, linear.products)
    if SCHEMES[linear.weights].weight_bits == 8:
        return int8_tiles(linear.in_features, isa)
    return IntegerTiles()


def alternatives(linear: Linear, isa: Isa) -> dict[str, tuple[int, ...]]:
    """Return what each choice of a kernel may be, the default first; those of one value left out.

    Of sizes of chunks that cut `in` alike there is one, and of numbers of products that are those
    of as many rows.
    """
    default, lengths = default_tiles(linear, isa), _lengths(linear)
    products = linear.in_features * linear.out_features
    found = {}
    for field in fields(default):
        first = getattr(default, field.name)
        values = tuple(dict.fromkeys((first, *_values(field.name, linear, isa))))
        if field.name in lengths:
            values = one_of_each(
                values, {value: -(-lengths[field.name] // value) for value in values}
            )
        elif field.name == "parallel_products":
            values = one_of_each(values, {value: -(-value // products) for value in values})
        if len(values) > 1:
            found[field.name] = values
    return found


def one_of_each(values: Iterable[int], effects: Mapping[int, int]) -> tuple[int, ...]:
    """Return the first of the values that have the same effect."""
    first: dict[int, int] = {}
    for value in values:
        first.setdefault(effects[value], value)
    return tuple(first.values())


def _values(name: str, linear: Linear, isa: Isa) -> tuple[int, ...]:
    if name != "rows":
        return _VALUES[name]
    if linear.weights in SCHEMES:
        return tuple(rows for rows in _INTEGER_ROWS if rows <= sums_in_registers(isa))
    dots = products_in(linear.weights, linear.products, isa) == "bf16"
    return _DOT_ROWS if dots else _FMA_ROWS


def _lengths(linear: Linear) -> dict[str, int]:
    """Return how long `in` is in the units of those choices that cut it."""
    pairs = -(-linear.in_features // 2)
    if linear.weights in FLOAT_BYTES:
        tiles = pairs // amx.STEPS
        chunk_bytes = pairs * STEP_VALUES * FLOAT_BYTES[linear.weights]
        return {"chunk_bytes": chunk_bytes, "chunk_tiles": tiles, "few_rows_chunk_tiles": tiles}
    steps = -(-linear.in_features * SCHEMES[linear.weights].weight_bits // 32)
    tiles = steps // amx.STEPS
    return {"chunk_steps": steps, "chunk_tiles": tiles, "few_rows_chunk_tiles": tiles}


def read_tiles(chosen: Mapping[str, int], linear: Linear, isa: Isa) -> Tiles:
    """Return the default with what `chosen` names in its place.

    Raises:
        ValueError: the kernel has no such choice, or not that one.
    """
    check_choices(chosen, alternatives(linear, isa), linear, isa)
    values: dict[str, Any] = dict(chosen)
    return replace(default_tiles(linear, isa), **values)


def check_choices(
    chosen: Mapping[str, int], may_be: Mapping[str, tuple[int, ...]], what: object, isa: Isa
) -> None:
    """Refuse choices that are not among those that there `may_be` for the kernel of `what`.

    Raises:
        ValueError: the kernel has no such choice, or not that one.
    """
    for name, value in chosen.items():
        if value not in may_be.get(name, ()):
            raise ValueError(f"no kernel of {what} has {name} {value} on {isa.name}")
