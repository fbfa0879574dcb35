"""Activations as integers: one scale a token, one or two signed bytes a value.

One byte is the activation of w8a8: ``round(x * 127 / amax)``, half to even. Two bytes are the
16-bit activation of weight-only types: ``round(x * 32639 / amax)``, cut into ``256 * high + low``
with both bytes signed. Next to bf16, the error of a value is one of the token's largest
(amax / 65278) rather than one of its own (2**-9): since amax is at most ``sqrt(in)`` times the root
mean square, the error of a whole token is at most ``sqrt(in) / 113000`` of its norm, 1e-3 at `in` =
13696 where bf16 has 1.1e-3, and ten times less for the usual amax of ten times the root mean
square. And sums of bytes are exact in int32: they depend neither on order nor on other tokens.

Every token becomes one row of bytes a plane (high bytes, then low bytes) and the sums of its
groups, by which weights stored with an offset are corrected.

A token whose amax is below 1e-30 counts as all zero. One that holds an infinity or a NaN has the
scale NaN, so that all its results are NaN; tokens beside it are untouched.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.float_bits import INFINITY_BITS, MAGNITUDE_BITS, NAN_BITS, ROUNDING_MAGIC
from schedules.int8_rows import SMALLEST
from schedules.lanes import like, shift, spread
from schedules.parallel import for_each, for_lanes
from schedules.registers import LANES, fold_lanes, vector
from schedules.scratch import scratch

LEVELS = {1: 127, 2: 32639}
"""Largest integer by bytes a value; 32639 is 127 * 256 + 127, the largest of two signed bytes."""

LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class QuantizedActivations:
    """Scratch that a kernel fills first and multiplies then.

    Attributes:
        planes: rows a token: 1 (int8) or 2 (high and low byte of int16).
        group: values of `in` that a sum covers.
        rows: ``[rows, stride]`` int8, zeros beyond `in` up to a multiple of 4; the stride has a
            line of padding, since rows a power of two apart would share sets of the cache.
        scales: ``[tokens]`` fp32.
        sums: ``[rows, groups]`` int32.
    """

    planes: int
    group: int
    rows: Any
    scales: Any
    sums: Any

    def word(self, row: Any, k: Any) -> tirx.Expr:
        """Bytes ``4 k .. 4 k + 3`` of a row as one int32."""
        return tirx.reinterpret("int32", self.rows[row, T.ramp(k * 4, 1, 4)])


def quantize_activations(
    x: Any, tokens: Any, *, planes: int, group: int, spare_rows: int = 0
) -> QuantizedActivations:
    """Emit the quantisation of ``x [tokens, in]`` fp32, in parallel where there is much of it.

    Args:
        planes: bytes a value.
        group: values of `in` that a sum covers, `in` or a divisor of it.
        spare_rows: rows of undefined bytes after the last, which may be read.
    """
    in_features = int(x.shape[1])
    result = _allocate(tokens, in_features, planes, group, spare_rows)

    def one_token(token: Any) -> None:
        inverse = _scale(x, token, result)
        _fill_up(in_features, token, result)
        with T.serial(0, in_features // group) as index:
            _quantize_group(x, token, index, inverse, result)

    for_each(tokens, in_features * (4 + planes), one_token)
    return result


def copy_codes(x: Any, scale: Any, tokens: Any, *, spare_rows: int = 0) -> QuantizedActivations:
    """Emit the same scratch for activations that are codes of 8 bits already.

    Args:
        x: ``[tokens, in]`` int8, or uint8, which are stored less 128.
        scale: ``[1]`` fp32, of all tokens.
        tokens: number of them.
        spare_rows: rows of undefined bytes after the last, which may be read.
    """
    in_features = int(x.shape[1])
    result = _allocate(tokens, in_features, 1, in_features, spare_rows)

    def one_token(token: Any) -> None:
        T.buffer_store(result.scales, scale[0], [token])
        _fill_up(in_features, token, result)
        total = _zeros()

        def copy(k: Any) -> None:
            value, at = x[token, k], _place(k)
            if x.dtype == "uint8":
                value = value ^ tirx.const(128, value.ty)
            code = value.astype(like(value, "int8"))
            T.buffer_store(total, total[at] + code.astype(like(value, "int32")), [at])
            T.buffer_store(result.rows, code, [token, k])

        for_lanes(in_features, LANES, copy)
        T.buffer_store(result.sums, fold_lanes(total, operator.add), [token, 0])

    for_each(tokens, 2 * in_features, one_token)
    return result


def _allocate(
    tokens: Any, in_features: int, planes: int, group: int, spare_rows: int
) -> QuantizedActivations:
    stride = -(-_padded(in_features) // LINE) * LINE + LINE
    rows = tokens * planes + spare_rows
    return QuantizedActivations(
        planes=planes,
        group=group,
        rows=scratch((rows, stride), "int8"),
        scales=scratch((tokens,), "float32"),
        sums=scratch((rows, in_features // group), "int32"),
    )


def _padded(in_features: int) -> int:
    return -(-in_features // 4) * 4


def _fill_up(in_features: int, token: Any, result: QuantizedActivations) -> None:
    """Emit the zeros beyond `in` of one token's rows."""
    for k in range(in_features, _padded(in_features)):
        for plane in range(result.planes):
            T.buffer_store(result.rows, T.int8(0), [token * result.planes + plane, k])


def _scale(x: Any, token: Any, result: QuantizedActivations) -> Any:
    """Emit the scale of one token; return its inverse, 0 for a token of zeros or none."""
    # As integers, magnitudes order like the numbers, infinity above them and NaN above all.
    largest = _zeros()

    def compare(k: Any) -> None:
        value = x[token, k]
        int_type = like(value, "int32")
        magnitude = tirx.reinterpret(int_type, value) & tirx.const(MAGNITUDE_BITS, int_type)
        at = _place(k)
        T.buffer_store(largest, T.max(largest[at], magnitude), [at])

    for_lanes(int(x.shape[1]), LANES, compare)
    bits = T.bind(fold_lanes(largest, T.max))
    amax = T.bind(tirx.reinterpret("float32", bits))
    levels = T.float32(LEVELS[result.planes])
    finite = bits < T.int32(INFINITY_BITS)
    nan = tirx.reinterpret("float32", T.int32(NAN_BITS))
    T.buffer_store(result.scales, T.Select(finite, amax / levels, nan), [token])
    present = tirx.all(finite, amax >= T.float32(SMALLEST))
    divisor = T.Select(present, amax, T.float32(1))
    return T.bind(T.Select(present, levels / divisor, T.float32(0)))


def _quantize_group(
    x: Any, token: Any, index: Any, inverse: Any, result: QuantizedActivations
) -> None:
    """Emit the bytes and the sums of one group of values of one token."""
    planes = result.planes
    totals = [_zeros() for _ in range(planes)]
    # A buffer, because TVM may not bind what is read twice.
    code = _zeros()

    def quantize(offset: Any) -> None:
        k, at = shift(offset, index * result.group), _place(offset)
        value = x[token, k]
        int_type = like(value, "int32")

        def signed(bits: int) -> tirx.Expr:
            """The low `bits` of the code, as a signed number; a NaN leaves some number too."""
            unused = tirx.const(32 - bits, int_type)
            return (code[at] << unused) >> unused

        rounded = value * spread(inverse, value) + tirx.const(ROUNDING_MAGIC, value.ty)
        T.buffer_store(code, tirx.reinterpret(int_type, rounded), [at])
        parts = [signed(8)]
        if planes == 2:
            parts.insert(0, (signed(16) - signed(8)) >> tirx.const(8, int_type))
        for plane, (part, total) in enumerate(zip(parts, totals, strict=True)):
            T.buffer_store(total, total[at] + part, [at])
            byte = part.astype(like(value, "int8"))
            T.buffer_store(result.rows, byte, [token * planes + plane, k])

    for_lanes(result.group, LANES, quantize)
    for plane, total in enumerate(totals):
        everything = fold_lanes(total, operator.add)
        T.buffer_store(result.sums, everything, [token * planes + plane, index])


def _zeros() -> tirx.Buffer:
    """One register of int32 zeros."""
    buffer = T.alloc_buffer((LANES,), "int32")
    T.buffer_store(buffer, T.broadcast(T.int32(0), LANES), [vector(0)])
    return buffer


def _place(k: Any) -> Any:
    """Where the values at index `k` of a loop of `for_lanes` stand in a register."""
    return vector(0) if isinstance(k, tirx.Ramp) else 0
