"""The Hadamard transform of a head, which spreads what few of its dimensions hold over all.

Keys of GLM have a few large dimensions, for which the one scale of an int8 row is too wide for the
rest. An orthogonal transform of keys and queries alike leaves their products as they are, and the
largest magnitude of a row comes near that of normal deviates (QuaRot, Ashkboos et al., 2024). It
follows the rotary embedding, so it may mix dimensions that turn with the position and those that
do not.

Transforms here are not normalised: ``(H q) . (H k)`` is ``size . (q . k)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.registers import LANES, register, splat, vector


def transform_size(head_dim: int) -> int:
    """Return how many neighbours are mixed: the largest power of two that divides `head_dim`."""
    return head_dim & -head_dim


def hadamard_reference(x: np.ndarray) -> np.ndarray:
    """Return ``x [..., head_dim]`` fp32 transformed, to the bit as the kernels do it."""
    result, size, stride = x.astype(np.float32), transform_size(x.shape[-1]), 1
    while stride < size:
        pairs = result.reshape(*x.shape[:-1], x.shape[-1] // (2 * stride), 2, stride)
        low, high = pairs[..., :1, :], pairs[..., 1:, :]
        result = np.concatenate([low + high, low - high], axis=-2).reshape(x.shape)
        stride *= 2
    return result


def emit_hadamard(values: list[tirx.Buffer]) -> None:
    """Transform the vectors of one head in place, a multiple of 16 dimensions."""
    size, stride = transform_size(len(values) * LANES), 1
    while stride < size:
        if stride < LANES:
            for value in values:
                _mix_lanes(value, stride)
        else:
            step = stride // LANES
            for i, low in enumerate(values):
                if i // step % 2 == 0:
                    _mix(low, values[i + step])
        stride *= 2


def _mix_lanes(value: tirx.Buffer, stride: int) -> None:
    """Sum and difference of the lanes that are `stride` apart."""
    x = value[vector(0)]
    other = tirx.Shuffle([x], [lane ^ stride for lane in range(LANES)])
    is_low = (vector(0) & splat(T.int32(stride))) == splat(T.int32(0))
    one = splat(T.float32(1))
    sign: Any = T.Select(is_low, one, -one)
    T.buffer_store(value, other + x * sign, [vector(0)])


def _mix(low: tirx.Buffer, high: tirx.Buffer) -> None:
    before = register(low[vector(0)])
    T.buffer_store(low, before[vector(0)] + high[vector(0)], [vector(0)])
    T.buffer_store(high, before[vector(0)] - high[vector(0)], [vector(0)])
