"""The functions of <math.h> that TIR's mathematical operators are in C."""

from __future__ import annotations

from typing import Final

MATH: Final[dict[str, str]] = {
    "tirx.acos": "acos",
    "tirx.acosh": "acosh",
    "tirx.asin": "asin",
    "tirx.asinh": "asinh",
    "tirx.atan": "atan",
    "tirx.atan2": "atan2",
    "tirx.atanh": "atanh",
    "tirx.ceil": "ceil",
    "tirx.copysign": "copysign",
    "tirx.cos": "cos",
    "tirx.cosh": "cosh",
    "tirx.erf": "erf",
    "tirx.exp": "exp",
    "tirx.exp2": "exp2",
    "tirx.fabs": "fabs",
    "tirx.floor": "floor",
    "tirx.fma": "fma",
    "tirx.fmod": "fmod",
    "tirx.hypot": "hypot",
    "tirx.log": "log",
    "tirx.log10": "log10",
    "tirx.log1p": "log1p",
    "tirx.log2": "log2",
    "tirx.nearbyint": "nearbyint",
    "tirx.nextafter": "nextafter",
    "tirx.pow": "pow",
    "tirx.round": "nearbyint",  # to even, as LLVM does it for TVM
    "tirx.sin": "sin",
    "tirx.sinh": "sinh",
    "tirx.sqrt": "sqrt",
    "tirx.tan": "tan",
    "tirx.tanh": "tanh",
    "tirx.trunc": "trunc",
}
"""By TIR's name; the version for fp32 has an ``f`` at its end."""

CLASSIFY: Final[dict[str, str]] = {
    "tirx.isnan": "isnan",
    "tirx.isinf": "isinf",
    "tirx.isfinite": "isfinite",
}
"""Macros of <math.h> that tell something of a number of any width."""

OURS: Final[dict[str, str]] = {"tirx.sigmoid": "sigmoid", "tirx.rsqrt": "rsqrt"}
"""What <math.h> lacks and ``vacc.h`` has."""
