"""What the kernel of attention may choose otherwise, for a shape and an instruction set.

The choices themselves, and their defaults, stand in `schedules.gqa_shape`. As with those of
`schedules.tiles`, results are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tvm import tirx

from schedules import gqa_attention
from schedules.gqa_product import Product
from schedules.gqa_shape import AttentionTiles, VectorAttentionTiles, tile_shape, vector_registers
from schedules.isa import Isa
from schedules.tiles import check_choices, one_of_each

_VALUES: Mapping[str, tuple[int, ...]] = {
    "tile_rows": (16, 32, 64, 128, 256, 512, 1024),
    "few_pieces": (4, 8, 16, 32, 64),
    "parallel_products": tuple(1 << power for power in range(16, 24)),
    "rows": (2, 3, 4, 6, 8),
}
"""What a choice may be, whatever the shape."""


@dataclass(frozen=True, order=True)
class Attention:
    """What the kernel of an attention is made for, the factor of its scores aside.

    Attributes:
        cache: dtype of the caches.
        heads: of queries.
        kv_heads: of keys and values.
        head_dim: of each.
        products: ``bf16`` where the target can, or ``fp32``.
    """

    cache: str
    heads: int
    kv_heads: int
    head_dim: int
    products: str = "bf16"

    def __str__(self) -> str:
        fp32 = " by fp32" if self.products == "fp32" else ""
        return f"attention {self.cache}{fp32} {self.heads}/{self.kv_heads} x {self.head_dim}"

    @property
    def group(self) -> int:
        """Query heads a KV head."""
        return self.heads // self.kv_heads


def attention_kernel(
    attention: Attention, scale: float, isa: Isa, tiles: AttentionTiles | None = None
) -> tirx.PrimFunc:
    """Return the kernel: see `gqa_attention.gqa_attention_kernel`, where `ValueError` is told."""
    return gqa_attention.gqa_attention_kernel(
        attention.heads,
        attention.kv_heads,
        attention.head_dim,
        attention.cache,
        scale,
        _isa(attention, isa),
        tiles,
    )


def default_attention_tiles(attention: Attention, isa: Isa) -> AttentionTiles:
    """Return what the kernel chooses where nothing was tuned."""
    product = _product(attention, isa)
    return gqa_attention.default_tiles(attention.group, attention.head_dim, product)


def attention_alternatives(attention: Attention, isa: Isa) -> dict[str, tuple[int, ...]]:
    """Return what each choice may be, the default first; of those that cut alike there is one."""
    default = default_attention_tiles(attention, isa)
    found = {}
    for field in fields(default):
        first = getattr(default, field.name)
        values = tuple(dict.fromkeys((first, *_VALUES[field.name])))
        if field.name == "rows":
            values = _register_rows(values, attention, isa)
        elif field.name == "tile_rows":
            tokens = {rows: max(1, rows // attention.group) for rows in values}
            values = one_of_each(values, tokens)
        if len(values) > 1:
            found[field.name] = values
    return found


def read_attention_tiles(
    chosen: Mapping[str, int], attention: Attention, isa: Isa
) -> AttentionTiles:
    """Return the default with what `chosen` names in its place.

    Raises:
        ValueError: the kernel has no such choice, or not that one.
    """
    check_choices(chosen, attention_alternatives(attention, isa), attention, isa)
    values: dict[str, Any] = dict(chosen)
    return replace(default_attention_tiles(attention, isa), **values)


def _isa(attention: Attention, isa: Isa) -> Isa:
    if attention.products == "fp32":
        return replace(isa, dots_bf16=False, dots_bytes=False)
    return isa


def _product(attention: Attention, isa: Isa) -> Product:
    return gqa_attention.attention_product(
        attention.cache, attention.head_dim, _isa(attention, isa)
    )


def _register_rows(values: tuple[int, ...], attention: Attention, isa: Isa) -> tuple[int, ...]:
    """Return the numbers of rows whose sums the registers hold, one of those that cut alike."""
    accumulators, registers = _product(attention, isa).accumulators, vector_registers(isa)
    fitting = [rows for rows in values if min(rows, registers) * accumulators <= registers]
    shapes = {
        rows: tile_shape(
            attention.group,
            attention.head_dim,
            isa,
            accumulators,
            VectorAttentionTiles(rows=rows),
        ).register_rows
        for rows in fitting
    }
    return one_of_each(fitting, shapes)
