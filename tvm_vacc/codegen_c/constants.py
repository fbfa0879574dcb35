"""Prints the constants of a graph as arrays."""

from __future__ import annotations

import numpy as np

from tvm_vacc.codegen_c.c_types import CType, c_type
from tvm_vacc.codegen_c.numbers import number

_PER_LINE = 8


def print_constant(name: str, array: np.ndarray) -> str:
    """Return the definition of an array of C with the elements of `array`."""
    ctype = c_type(str(array.dtype))
    return (
        f"static const {ctype.scalar} {name}[{array.size}] = "
        f"{{ /* [{', '.join(map(str, array.shape))}] */\n{_values(array, ctype)}}};\n"
    )


def _values(array: np.ndarray, ctype: CType) -> str:
    if ctype.is_half:
        words = [f"0x{item:04x}" for item in array.ravel().view(np.uint16)]
    elif ctype.is_float:
        words = [number(float(item), ctype) for item in array.ravel()]
    else:
        words = [str(int(item)) for item in array.ravel()]
    rows = [words[i : i + _PER_LINE] for i in range(0, len(words), _PER_LINE)]
    return "".join(f"    {', '.join(row)},\n" for row in rows)
