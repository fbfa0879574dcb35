"""The kernel of any linear, from what it is made for and how it is to cut its work."""

from __future__ import annotations

from tvm import tirx

from schedules.isa import Isa
from schedules.linear_float import linear_kernel
from schedules.linear_int4 import linear_int4_kernel
from schedules.linear_int8 import linear_int8_kernel
from schedules.linear_int8_codes import linear_int8_codes_kernel
from schedules.tiles import FLOAT_BYTES, Linear, Tiles, default_tiles
from tvm_vacc.quantize.scheme import SCHEMES


def kernel_of(
    linear: Linear, isa: Isa, *, bias_dtype: str | None, tiles: Tiles | None = None
) -> tirx.PrimFunc:
    """Return the kernel; its arguments are those of the kernel family.

    Args:
        linear: what for.
        isa: which instructions there are.
        bias_dtype: dtype of the bias argument; None: there is no such argument.
        tiles: of the kind that `default_tiles` returns; None: these.

    Raises:
        ValueError: no kernel is made for that.
    """
    sizes = (linear.in_features, linear.out_features)
    tiles = tiles or default_tiles(linear, isa)
    if linear.weights in FLOAT_BYTES:
        return linear_kernel(
            *sizes,
            linear.weights,
            isa,
            bias_dtype=bias_dtype,
            products=linear.products,
            tiles=tiles,
        )
    scheme = SCHEMES[linear.weights]
    if scheme.weight_bits == 4:
        return linear_int4_kernel(
            *sizes, linear.group_size, isa, bias_dtype=bias_dtype, tiles=tiles
        )
    if linear.takes != "float":
        return linear_int8_codes_kernel(
            *sizes, isa, x_dtype=linear.takes, bias_dtype=bias_dtype, tiles=tiles
        )
    return linear_int8_kernel(
        *sizes, isa, activations=scheme.activations, bias_dtype=bias_dtype, tiles=tiles
    )
