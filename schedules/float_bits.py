"""The bits of fp32 numbers, where kernels work on them as integers."""

from __future__ import annotations

ROUNDING_MAGIC = 12582912.0
"""1.5 * 2**23: adding it rounds half to even and leaves the integer in the low bits."""

ROUNDING_MAGIC_BITS = 0x4B400000
"""The bits of that number: the bits of the sum less these are the integer."""

MAGNITUDE_BITS = 0x7FFFFFFF
"""All but the sign. Magnitudes order like the numbers, infinity above them and NaN above all."""

INFINITY_BITS = 0x7F800000

NAN_BITS = 0x7FC00000
"""The usual NaN."""
