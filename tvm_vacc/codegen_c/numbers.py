"""Prints floating-point constants."""

from __future__ import annotations

import numpy as np

from tvm_vacc.codegen_c.c_types import CType


def number(value: float, ctype: CType) -> str:
    """Return a float constant that C reads back exactly."""
    if value != value:
        return "NAN"
    if value in (float("inf"), float("-inf")):
        return "INFINITY" if value > 0 else "-INFINITY"
    if ctype.base == "float64":
        return repr(value)
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    if np.isinf(narrow):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = np.format_float_scientific(narrow, trim="0") if narrow else "0.0"
    if 1e-4 <= abs(narrow) < 1e7:
        text = np.format_float_positional(narrow, trim="0")
    return f"{text}f"
